"""Images of several cameras, of any rate and phase, become frame sets at the instants that are asked for."""

from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.sampling import FrameSampler, FrameSet

MS = 1_000_000
PERIOD = 80 * MS
T0 = 1_700_000_000_000_000_000
NEVER = 0


def make(cameras: int, max_held: int = 2) -> FrameSampler:
    return FrameSampler(cameras, PERIOD, max_held)


def feed(sampler: FrameSampler, frames: list[tuple[int, int]], overdue_ms: int | None = None) -> list[FrameSet]:
    """Push (camera, ms) in order of arrival; a frame is its own (camera, ms)."""
    overdue = NEVER if overdue_ms is None else T0 + overdue_ms * MS
    sets = []
    for camera, ms in frames:
        sampler.push(camera, T0 + ms * MS, (camera, ms))
        sets += sampler.take(overdue)
    return sets


def ask(sampler: FrameSampler, *instants_ms: int) -> None:
    sampler.ask(T0 + ms * MS for ms in instants_ms)


def stamps(sets: list[FrameSet]) -> list[int]:
    return [(each.stamp_ns - T0) // MS for each in sets]


def both(*instants_ms: int) -> list[tuple[int, int]]:
    return [(camera, ms) for ms in instants_ms for camera in (0, 1)]


def test_each_instant_gets_the_nearest_frame_of_each_camera() -> None:
    sampler = make(2)
    ask(sampler, 0, 80, 160)
    arrivals = sorted((round(100 * k / 3) + phase, camera) for k in range(8) for camera, phase in ((0, 0), (1, 9)))
    sets = feed(sampler, [(camera, ms) for ms, camera in arrivals])
    assert [each.frames for each in sets] == [((0, 0), (1, 9)), ((0, 67), (1, 76)), ((0, 167), (1, 176))]
    assert sum(each.held for each in sets) == 0


def test_a_frame_that_could_be_nearer_is_waited_for() -> None:
    sampler = make(2)
    ask(sampler, 80)
    assert feed(sampler, [(0, 80), (1, 50)]) == []
    assert feed(sampler, [(1, 90)])[0].frames == ((0, 80), (1, 90))


def test_a_frame_that_can_hardly_be_nearer_is_not_waited_for() -> None:
    sampler = make(1)
    feed(sampler, [(0, 0), (0, 80)])
    ask(sampler, 119, 121)
    assert stamps(sampler.take(NEVER)) == [80]
    assert stamps(feed(sampler, [(0, 160)])) == [160]
    feed(sampler, [(0, 193), (0, 227)])  # it has become faster
    ask(sampler, 205, 240, 246)
    assert stamps(sampler.take(NEVER)) == [193, 227]


@given(
    gaps=st.lists(st.integers(5, 250), min_size=12, max_size=30),
    first=st.integers(100, 300),
    step=st.sampled_from([33, 80, 100]),
)
def test_what_is_picked_does_not_depend_on_when_it_is_asked_for(gaps: list[int], first: int, step: int) -> None:
    frames = [(0, sum(gaps[:k])) for k in range(len(gaps))]
    instants = range(first, frames[-1][1] - 80, step)
    live, later = make(1), make(1)
    ask(live, *instants)
    found = feed(live, frames)
    feed(later, frames)
    ask(later, *instants)
    assert [each.frames for each in later.take(NEVER)] == [each.frames for each in found]
    assert len(found) == len(instants)


def test_the_order_of_arrival_does_not_matter() -> None:
    instants = [80 * k for k in range(6)]
    sampler = make(3)
    ask(sampler, *instants)
    sets = feed(sampler, [(camera, ms) for ms in instants for camera in (2, 0, 1)])
    assert [each.frames for each in sets] == [tuple((camera, ms) for camera in range(3)) for ms in instants]


def test_frames_that_came_before_the_question_answer_it() -> None:
    sampler = make(2)
    feed(sampler, both(0, 80, 160, 240, 320))
    ask(sampler, 80, 160, 240, 320)
    assert stamps(sampler.take(NEVER)) == [80, 160, 240, 320]


def test_a_camera_whose_frames_come_in_a_burst_is_waited_for() -> None:
    sampler = make(2)
    ask(sampler, 0, 80, 160, 240)
    arrivals = [(0, 0), (1, 0), (0, 80), (0, 160), (1, 80), (1, 160), (0, 240), (1, 240)]
    sets = feed(sampler, arrivals)
    assert [each.frames for each in sets] == [((0, ms), (1, ms)) for ms in (0, 80, 160, 240)]
    assert sum(each.held for each in sets) == 0


def test_a_missing_frame_repeats_the_nearest_once_the_reference_is_two_periods_ahead() -> None:
    sampler = make(2)
    ask(sampler, 0, 80, 160)
    assert stamps(feed(sampler, [*both(0), (0, 80), (0, 160)])) == [0]
    [late] = feed(sampler, [(0, 240)])
    assert (late.frames, late.held, late.missing) == (((0, 80), (1, 0)), 1, ())


def test_a_dead_reference_is_noticed_when_the_caller_gives_up() -> None:
    sampler = make(2, max_held=1)
    ask(sampler, 0, 80, 160)
    assert stamps(feed(sampler, [*both(0), (1, 80), (1, 160), (1, 240), (1, 320)])) == [0]
    held, missing = sampler.take(T0 + 160 * MS)
    assert (held.frames, held.held) == (((0, 0), (1, 80)), 1)
    assert (missing.frames, missing.missing) == (((0, 0), (1, 160)), (0,))
    assert missing.stamp_ns == missing.instant_ns


def test_frames_are_repeated_for_so_many_instants_at_most() -> None:
    sampler = make(2, max_held=2)
    ask(sampler, *(80 * k for k in range(8)))
    sets = feed(sampler, [*both(0), *((0, 80 * k) for k in range(1, 10))])
    assert [each.held for each in sets] == [0, 1, 1, 1, 1, 1, 1, 1]
    assert [each.missing for each in sets] == [(), (), (), (1,), (1,), (1,), (1,), (1,)]
    assert [each.frames for each in sets[3:]] == [((0, 80 * k), (1, 0)) for k in range(3, 8)]


def test_a_camera_that_comes_back_may_be_repeated_again() -> None:
    sampler = make(2, max_held=1)
    ask(sampler, *(80 * k for k in range(6)))
    sets = feed(sampler, [*both(0), (0, 80), *both(160), (0, 240), *both(320), (0, 400), (0, 480), (0, 560)])
    assert [(each.held, each.missing) for each in sets] == [(0, ()), (1, ())] * 3


def test_a_camera_that_is_given_up_and_silent_is_not_waited_for_and_the_next_one_is_the_reference() -> None:
    sampler = make(2, max_held=1)
    ask(sampler, *(80 * k for k in range(9)))
    arrivals = [*both(0), *((1, 80 * k) for k in range(1, 9))]
    sets = [feed(sampler, [arrival]) for arrival in arrivals[:4]]
    sets[3] += sampler.take(T0 + 160 * MS)  # the caller gives up on the reference
    sets += [feed(sampler, [arrival]) for arrival in arrivals[4:]]
    instants = [[(each.instant_ns - T0) // MS for each in taken] for taken in sets]
    assert instants == [[], [0], [], [80, 160], [], [], [240], [320, 400, 480], [560], [640]]
    assert [each.missing for taken in sets for each in taken] == [(), (), *[(0,)] * 7]


def test_a_camera_that_is_given_up_comes_back_although_it_lags() -> None:
    sampler = make(2, max_held=1)
    ask(sampler, *(80 * k for k in range(14)))
    lagging = [arrival for k in range(9, 17) for arrival in ((0, 80 * k), (1, 80 * (k - 1)))]
    sets = feed(sampler, [*both(0), *((0, 80 * k) for k in range(1, 9)), *lagging])
    assert [each.missing for each in sets] == [(), (), *[(1,)] * 8, *[()] * 4]


def test_the_first_set_need_not_have_a_camera_that_is_silent_when_it_is_overdue() -> None:
    for dead, alive in ((0, 1), (1, 0)):
        sampler = make(2)
        feed(sampler, [(dead, 0)])
        sampler.begin(T0 + 500 * MS, complete=False)
        assert feed(sampler, [(alive, 480), (alive, 560), (alive, 640)]) == []
        [first] = sampler.take(T0 + 500 * MS)
        assert (first.stamp_ns, first.missing) == (T0 + 560 * MS, (dead,))
        assert first.frames[alive] == (alive, 560)


def test_a_slower_camera_in_any_phase_is_not_missing() -> None:
    sampler = make(1)
    ask(sampler, *(80 * k for k in range(100)))
    sets = feed(sampler, [(0, 100 * k + 37) for k in range(82)])
    assert len(sets) == 100
    assert sum(each.held for each in sets) == 0


def test_the_first_set_is_complete_and_not_from_before_the_beginning() -> None:
    sampler = make(2)
    feed(sampler, both(0, 80))
    sampler.begin(T0 + 100 * MS)
    assert feed(sampler, [(0, 160), (0, 240), (0, 320), (0, 400)]) == []
    [first] = feed(sampler, [(1, 400), (0, 480)])
    assert first.frames == ((0, 400), (1, 400))
    assert first.held == 0


def test_a_beginning_forgets_what_was_asked_for_and_held() -> None:
    sampler = make(1, max_held=0)
    feed(sampler, [(0, 0)])
    ask(sampler, 0, 160, 240)
    assert [each.missing for each in sampler.take(T0 + 160 * MS)] == [(), (0,)]
    sampler.begin(T0 + 300 * MS)
    ask(sampler, 400)
    sets = feed(sampler, [(0, 320), (0, 400)])
    assert [(each.frames, each.missing) for each in sets] == [(((0, 320),), ()), (((0, 400),), ())]


def test_a_gap_between_stamps_counts_as_dropped_frames() -> None:
    sampler = make(2)
    feed(sampler, both(0, 80, 160, 400, 480))
    assert sampler.dropped == 4
    feed(sampler, [(0, 500), (0, 590)])
    assert sampler.dropped == 4


def test_a_repeated_or_older_stamp_is_ignored() -> None:
    sampler = make(1)
    sampler.push(0, T0, 'first')
    sampler.push(0, T0, 'again')
    sampler.push(0, T0 - 500 * MS, 'older')
    ask(sampler, 0)
    assert sampler.take(NEVER)[0].frames == ('first',)


def test_a_clock_that_was_set_back_starts_afresh() -> None:
    sampler = make(2)
    feed(sampler, both(100_000, 100_080))
    ask(sampler, 100_160)
    ask_again = [*both(0), *both(80)]
    assert feed(sampler, ask_again) == []
    ask(sampler, 80)
    assert stamps(sampler.take(NEVER)) == [80]
    assert sampler.newest_ns == T0 + 80 * MS


def test_a_camera_that_never_came_is_missing() -> None:
    sampler = make(2)
    ask(sampler, 0)
    sets = feed(sampler, [(0, 80 * k) for k in range(4)])
    assert [(each.frames, each.missing) for each in sets] == [(((0, 0), None), (1,))]


def test_memory_is_bounded() -> None:
    sampler = make(1)
    feed(sampler, [(0, 80 * k) for k in range(1000)])
    assert sum(len(buffer) for buffer in sampler._buffers) <= 64
