"""Cameras of any rate and phase become frame sets on the video clock."""

from lingbot_va_core.sampling import FrameSampler, FrameSet

MS = 1_000_000
PERIOD = 80 * MS
T0 = 1_700_000_000_000_000_000


def feed(sampler: FrameSampler, frames: list[tuple[int, int]]) -> list[FrameSet]:
    """Push (camera, ms) in order of arrival; a frame is its own (camera, ms)."""
    return [each for camera, ms in frames for each in sampler.push(camera, T0 + ms * MS, (camera, ms))]


def stamps(sets: list[FrameSet]) -> list[int]:
    return [(each.stamp_ns - T0) // MS for each in sets]


def test_cameras_at_the_video_rate_give_every_frame() -> None:
    sets = feed(FrameSampler(3, PERIOD), [(camera, 80 * k) for k in range(10) for camera in range(3)])
    assert stamps(sets) == [80 * k for k in range(10)]
    assert all(each.frames == ((0, ms), (1, ms), (2, ms)) for each, ms in zip(sets, stamps(sets), strict=True))
    assert sum(each.held + each.skipped for each in sets) == 0


def test_the_order_of_arrival_does_not_matter() -> None:
    sets = feed(FrameSampler(3, PERIOD), [(camera, 80 * k) for k in range(10) for camera in (2, 0, 1)])
    assert stamps(sets) == [80 * k for k in range(10)]
    assert all({ms for _, ms in each.frames} == {at} for each, at in zip(sets, stamps(sets), strict=True))


def test_a_camera_whose_frames_come_in_a_burst_is_waited_for() -> None:
    arrivals = [(0, 0), (1, 0), (0, 80), (0, 160), (1, 80), (1, 160), (0, 240), (1, 240)]
    sets = feed(FrameSampler(2, PERIOD), arrivals)
    assert [each.frames for each in sets] == [((0, ms), (1, ms)) for ms in (0, 80, 160, 240)]
    assert sum(each.held for each in sets) == 0


def test_faster_cameras_are_subsampled_to_the_nearest_frame() -> None:
    arrivals = sorted((round(100 * k / 3) + phase, camera) for k in range(60) for camera, phase in ((0, 0), (1, 9)))
    sets = feed(FrameSampler(2, PERIOD), [(camera, ms) for ms, camera in arrivals])
    gaps = [later - earlier for earlier, later in zip(stamps(sets), stamps(sets)[1:], strict=False)]
    assert set(gaps) <= {66, 67, 100, 101}
    assert abs(sum(gaps) / len(gaps) - 80) < 3
    assert all(abs(each.frames[1][1] - each.frames[0][1]) <= 17 for each in sets)
    assert sum(each.held + each.skipped for each in sets) == 0


def test_a_camera_that_is_a_little_slow_is_followed() -> None:
    sets = feed(FrameSampler(1, PERIOD), [(0, 81 * k) for k in range(300)])
    assert stamps(sets) == [81 * k for k in range(300)]
    assert sum(each.skipped for each in sets) == 0


def test_a_missing_frame_of_the_reference_is_counted() -> None:
    sets = feed(FrameSampler(2, PERIOD), [(camera, 80 * k) for k in range(8) if k not in (3, 4) for camera in (0, 1)])
    assert stamps(sets) == [0, 80, 160, 400, 480, 560]
    assert [each.skipped for each in sets] == [0, 0, 0, 2, 0, 0]


def test_a_missing_frame_of_another_camera_repeats_its_last() -> None:
    frames = [(camera, 80 * k) for k in range(8) for camera in (0, 1) if (camera, k) != (1, 4)]
    sets = feed(FrameSampler(2, PERIOD), frames)
    assert stamps(sets) == [80 * k for k in range(8)]
    assert [each.held for each in sets] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert sets[4].frames[1] == (1, 240)


def test_a_camera_that_never_came_blocks() -> None:
    assert feed(FrameSampler(2, PERIOD), [(0, 80 * k) for k in range(30)]) == []


def test_a_camera_that_comes_at_last_does_not_bring_back_the_whole_past() -> None:
    sampler = FrameSampler(2, PERIOD)
    feed(sampler, [(0, 80 * k) for k in range(100)])
    sets = feed(sampler, [(1, 80 * 99)])
    assert len(sets) <= 16
    assert sets[-1].frames == ((0, 80 * 99), (1, 80 * 99))


def test_a_repeated_or_older_stamp_is_ignored() -> None:
    sampler = FrameSampler(1, PERIOD)
    assert len(feed(sampler, [(0, 0), (0, 0), (0, 80), (0, 40)])) == 2


def test_a_clock_that_jumps_back_starts_afresh() -> None:
    sampler = FrameSampler(2, PERIOD)
    feed(sampler, [(camera, 100_000 + 80 * k) for k in range(4) for camera in (0, 1)])
    sets = feed(sampler, [(camera, 80 * k) for k in range(4) for camera in (0, 1)])
    assert stamps(sets) == [0, 80, 160, 240]
    assert sets[0].skipped == 0
