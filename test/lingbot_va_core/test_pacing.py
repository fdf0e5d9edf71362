"""When predictions begin and chunks start. Times are in ms, except where an argument ends in _ns."""

import pytest

from lingbot_va_core.clock import LatentClock
from lingbot_va_core.pacing import Pacer, PacingError, Placement

CLOCK = LatentClock.from_rates(control_hz=50, video_hz=12.5)
MS = 1_000_000


def pacer(mode: str = 'fdm', lead: int = 20, **settings: object) -> Pacer:
    pacer = Pacer(CLOCK, mode, lead * MS, **settings)
    pacer.observed(1000 * MS, 1000 * MS)
    return pacer


def predicted(pacer: Pacer, began: int, now: int, first: int, frames: int = 2) -> tuple[float, float, float, float]:
    """Start, time per action and margin in ms, and the speed."""
    placement = pacer.predicted(began * MS, now * MS, first, frames)
    return placement.start_ns / MS, placement.dt_ns / MS, placement.margin_ns / MS, placement.speed


def test_the_first_prediction_begins_at_once_and_its_chunk_on_the_video_grid() -> None:
    pace = pacer()
    assert (pace.begin_ns, pace.latency_ns, pace.motion_end_ns) == (0, None, None)
    assert predicted(pace, 1000, 1070, first=1, frames=1) == (1160, 20, 0, 1)
    assert pace.motion_end_ns == 1480 * MS


def test_a_chunk_on_the_grid_to_the_nanosecond_does_not_wait_for_the_next_point() -> None:
    assert predicted(pacer(), 1000, 1060, first=1)[0] == 1080
    placement = pacer().predicted(1000 * MS, 1060 * MS + 1, 1, 1)
    assert placement == Placement(1160 * MS, 20 * MS, 0, 1.0)


def test_a_chunk_in_time_follows_without_a_gap() -> None:
    pace = pacer()
    predicted(pace, 1000, 1060, first=1)  # 1080 to 1720
    assert predicted(pace, 1600, 1719, first=3) == (1720, 20, 1, 1)  # although less than the lead is left
    assert pace.motion_end_ns == 2360 * MS


def test_a_late_chunk_waits_for_the_grid() -> None:
    pace = pacer()
    predicted(pace, 1000, 1060, first=1)  # 1080 to 1720
    pace.observed(1400 * MS, 1450 * MS)
    assert predicted(pace, 1650, 1721, first=3) == (1800, 20, -1, 1)
    assert predicted(pace, 1900, 2500, first=5) == (2520, 20, -60, 1)


def test_the_next_prediction_begins_as_late_as_the_slowest_recent_one_allows() -> None:
    pace = pacer()
    first, now = 1, 1060
    for latency in (60, 200, *[50] * 7):
        predicted(pace, now - latency, now, first)
        first, now = first + 2, pace.motion_end_ns // MS - 20
        assert pace.begin_ns == pace.motion_end_ns - (max(latency, 200) if first > 3 else 60) * MS - 20 * MS
    predicted(pace, now - 50, now, first)  # the eighth since the slow one
    assert pace.latency_ns == 50 * MS


def test_reports_of_the_motion_move_its_planned_end() -> None:
    pace = pacer()
    predicted(pace, 1000, 1060, first=1)  # 1080, 1400, 1720
    predicted(pace, 1500, 1600, first=3)  # 2040, 2360
    pace.executed(1, 1900 * MS)  # paused for 500 ms
    assert pace.motion_end_ns == 2860 * MS
    pace.executed(2, 2220 * MS)
    assert pace.motion_end_ns == 2860 * MS
    pace.executed(1, 9999 * MS)  # repeated
    assert pace.motion_end_ns == 2860 * MS
    pace.executed(4, 2860 * MS)
    assert predicted(pace, 2700, 2830, first=5)[0] == 2860


def test_after_a_pause_the_planned_motion_ends_that_much_later() -> None:
    pace = pacer()
    predicted(pace, 1000, 1060, first=1)  # 1080 to 1720, after 60 ms
    pace.paused(4000 * MS)
    assert pace.motion_end_ns == 5720 * MS
    assert pace.begin_ns == (5720 - 60 - 20) * MS
    assert predicted(pace, 5640, 5700, first=3) == (5720, 20, 20, 1)


def test_a_restart_forgets_motion_but_not_latency() -> None:
    pace = pacer()
    predicted(pace, 1000, 1060, first=1)
    pace.restart()
    assert (pace.begin_ns, pace.motion_end_ns, pace.latency_ns) == (0, None, 60 * MS)
    pace.observed(5000 * MS, 5000 * MS)
    assert predicted(pace, 5000, 5060, first=1)[0] == 5080


def test_motion_is_slowed_to_what_inference_needs_and_recovers() -> None:
    pace = pacer(late='slow')
    pace.observed(1000 * MS, 1100 * MS)
    start, dt, _, speed = predicted(pace, 1100, 2260, first=1)  # delay 100, latency 1160, lead 20: twice the motion
    assert (start, dt, speed) == (2280, 40, 0.5)
    assert pace.motion_end_ns == (2280 + 1280) * MS
    first = 3
    for _ in range(8):
        end = pace.motion_end_ns // MS
        start, dt, margin, speed = predicted(pace, end - 500, end - 20, first)
        assert (start, margin) == (end, 20)
        first += 2
    assert (dt, speed) == (20, 1)


def test_motion_is_not_slowed_below_the_least_speed() -> None:
    assert predicted(pacer(late='slow'), 1000, 9000, first=1)[3] == 0.25
    assert predicted(pacer(late='slow', min_speed=0.8), 1000, 9000, first=1)[1:] == (25, 0, 0.8)


def test_a_stretched_chunk_is_never_shorter_than_what_it_has_to_cover() -> None:
    placement = pacer(late='slow').predicted(1000 * MS, 1777 * MS + 1, 1, 2)
    assert 32 * placement.dt_ns >= 797 * MS + 1 > 32 * (placement.dt_ns - 1)


@pytest.mark.parametrize(('mode', 'late'), [('fdm', 'hold'), ('sync', 'hold'), ('sync', 'slow')])
def test_motion_that_holds_in_between_is_not_slowed(mode: str, late: str) -> None:
    assert predicted(pacer(mode, late=late), 1000, 9000, first=1)[1:] == (20, 0, 1)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'late': 'jerk'}, "late is 'jerk'; choose one of hold, slow"),
        ({'min_speed': 0.0}, 'min_speed is 0.0; it must be above 0 and at most 1'),
        ({'lead': -1}, 'lead_ns is -1000000; it must be at least 0'),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(PacingError, match=message):
        pacer(**settings)
