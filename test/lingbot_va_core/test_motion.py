"""Chunks on the motion clock: appended, waited for, cross-faded, dropped or refused; paused, slowed down, at rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.action_layout import ActionLayout
from lingbot_va_core.motion import MAX_PLANNED, ChunkError, Splice, Timeline
from lingbot_va_core.rotations import from_rotation_vectors, to_rotation_vectors

DT = 20_000_000
T0 = 1_700_000_000_000_000_000
ROWS = 16
JOINTS = ActionLayout.from_channels(np.array([14, 15, 28]))


def ramp(first: float, frames: int = 1, slope: float = 1.0) -> np.ndarray:
    """Action k is first + slope * k, in two joints and a gripper."""
    return np.repeat(first + slope * np.arange(ROWS * frames, dtype=float)[:, None], 3, axis=1)


def timeline(**options: float) -> Timeline:
    line = Timeline(JOINTS, DT, ROWS, **options)
    line.advance(T0)
    return line


def run(line: Timeline, ticks: int, speed: float = 1.0) -> list[float | None]:
    """Advance, and return what was due each time."""
    due = []
    for _ in range(ticks):
        line.advance(line.instant_ns + DT, speed)
        window = line.window(1)
        due.append(None if window is None else float(window.values[0, 0]))
    return due


def test_action_k_is_due_k_plus_one_periods_after_the_stamp() -> None:
    line = timeline()
    assert line.splice(1, T0, DT, ramp(0), 3) == Splice(appended=16)
    for k in range(16):
        line.advance(T0 + (k + 1) * DT)
        window = line.window(4)
        assert window.values[0].tolist() == [k] * 3
        assert (window.chunk, window.index) == (3, k)
        assert len(window.values) == min(4, 16 - k)
    line.advance(T0 + 17 * DT)
    assert line.window(4) is None
    assert line.holding


def test_a_window_looks_ahead_at_the_speed_of_the_motion_and_ends_at_rest() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 10)
    line.advance(line.instant_ns + DT, 0.5)
    window = line.window(30)
    np.testing.assert_allclose(window.values[:3, 0], [9.5, 10.0, 10.5])
    assert window.values[-1, 0] == 15
    np.testing.assert_allclose(window.velocities[:-1, 0], np.diff(window.values[:, 0]) / 0.02)
    assert not window.velocities[-1].any()


def test_the_motion_begins_at_what_was_sent() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(10), 0, sent=np.array([9.0, 9.0, 9.0]))
    line.advance(T0 + DT // 2)
    assert line.window(1).values[0, 0] == 9.5


@pytest.mark.parametrize(('rounding', 'waits'), [(DT // 2 - 1, False), (DT // 2, True)])
def test_a_chunk_stamped_less_than_half_a_period_after_the_motion_follows_without_a_wait(
    rounding: int, waits: bool
) -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 3)
    splice = line.splice(2, T0 + ROWS * DT + rounding, DT, ramp(16), 1)
    assert (splice.appended, splice.wait_ns > 0) == (16, waits)
    due = run(line, 29)
    assert (due == list(range(3, 32))) == (not waits)


def test_a_chunk_stamped_later_is_waited_for() -> None:
    line = timeline()
    wait = 3 * DT + DT // 4
    assert line.splice(1, T0 + wait, DT, ramp(0), 0).wait_ns == wait
    assert run(line, 3) == [None] * 3
    np.testing.assert_allclose(run(line, 3), [0, 0.75, 1.75])  # before the first action there is nothing to blend with
    assert line.lag_ns == 0


def test_a_chunk_that_follows_goes_on_where_the_motion_ends_however_early_its_stamp() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 5)
    run(line, 10, speed=0.5)
    assert line.lag_ns == 5 * DT
    assert line.splice(2, T0 + 16 * DT, DT, ramp(16), 1) == Splice(appended=16)
    np.testing.assert_allclose(run(line, 22), np.arange(10, 32))


def test_a_stamp_after_the_lagging_end_means_a_wait_in_which_the_lag_vanishes() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 10)
    run(line, 4, speed=0.0)
    line.splice(2, T0 + 22 * DT, DT, ramp(16), 1)
    due = run(line, 10)
    np.testing.assert_allclose(due[:6], np.arange(10, 16))
    assert due[6:8] == [None, None]
    np.testing.assert_allclose(due[8:], [16, 17])
    assert line.lag_ns == 0


def test_a_late_chunk_begins_at_once_and_loses_nothing() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 20)
    assert line.splice(2, T0 + 16 * DT, DT, ramp(16), 1) == Splice(appended=16)
    np.testing.assert_allclose(run(line, 16), np.arange(16, 32))


def test_when_all_is_executed_the_lag_is_zero() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 40, speed=0.7)
    assert line.lag_ns == 0
    assert line.motion_ns >= line.plan.due[-1]


def test_the_last_action_is_sent_whole() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    due = run(line, 30, speed=0.7)
    assert [value for value in due if value is not None][-1] == 15


def test_a_stale_chunk_never_pulls_back() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0, frames=3), 0)
    run(line, 24)
    splice = line.splice(1, T0, DT, ramp(0, frames=4), 1)
    assert splice == Splice(late=24, faded=23, appended=17)
    np.testing.assert_allclose(run(line, 40), np.arange(24, 64))


def test_a_chunk_all_of_whose_actions_were_sent_changes_nothing() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0, frames=2), 0)
    run(line, 20)
    assert line.splice(1, T0, DT, ramp(50), 1) == Splice(late=16)
    np.testing.assert_allclose(run(line, 12), np.arange(20, 32))


def test_overlap_fades_linearly_for_joints_and_at_once_for_grippers() -> None:
    line = timeline()
    line.splice(1, T0, DT, np.zeros((32, 3)), 0)
    run(line, 16)
    assert line.splice(2, T0 + 16 * DT, DT, np.ones((32, 3)), 1) == Splice(faded=15, appended=17)
    for k in range(1, 33):
        line.advance(line.instant_ns + DT)
        np.testing.assert_allclose(line.window(1).values[0], [min(k / 16, 1)] * 2 + [1])


def test_a_chunk_that_is_still_waited_for_can_be_replaced() -> None:
    line = timeline()
    line.splice(1, T0 + 5 * DT, DT, ramp(0), 0, sent=np.full(3, -1.0))
    run(line, 2)
    assert line.splice(1, T0 + 7 * DT, DT, ramp(50), 1, sent=np.full(3, -1.0)) == Splice(appended=16, wait_ns=5 * DT)
    assert run(line, 5) == [None] * 5
    np.testing.assert_allclose(run(line, 16), np.arange(50, 66))


def test_a_chunk_after_one_that_is_waited_for_begins_where_that_ends() -> None:
    line = timeline()
    line.splice(1, T0 + 5 * DT, DT, ramp(0), 0, sent=np.full(3, -1.0))
    run(line, 2)
    assert line.splice(2, T0 + 25 * DT, DT, ramp(20), 1, sent=np.full(3, -1.0)).wait_ns == 23 * DT
    assert run(line, 23) == [None] * 3 + list(range(16)) + [None] * 4
    line.advance(line.instant_ns + DT // 2)
    assert line.window(1).values[0, 0] == 17.5


def test_a_repeated_frame_with_a_later_stamp_is_not_executed_again() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 20)
    assert line.splice(1, T0 + 4 * DT, DT, ramp(0, frames=2), 1) == Splice(late=16, appended=16)
    np.testing.assert_allclose(run(line, 16), np.arange(16, 32))


def test_orientations_fade_along_the_arc() -> None:
    layout = ActionLayout.from_channels(np.arange(7))
    line = Timeline(layout, DT, ROWS)
    line.advance(T0)
    old, new = (np.tile([0, 0, 0, *from_rotation_vectors(np.array([0, 0, a]))], (32, 1)) for a in (0.0, 1.6))
    line.splice(1, T0, DT, old, 0)
    run(line, 16)
    line.splice(2, T0 + 16 * DT, DT, -new, 1)
    for k in range(1, 17):
        line.advance(line.instant_ns + DT)
        np.testing.assert_allclose(to_rotation_vectors(line.window(1).values[0, 3:])[2], 0.1 * k, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 63), st.integers(0, DT - 1), st.sampled_from([1, 2, 3]))
def test_the_target_does_not_jump_at_a_seam_wherever_it_is(ticks: int, phase: int, stretch: int) -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0, frames=4), 0)
    run(line, ticks)
    line.advance(line.instant_ns + phase)
    before = line.window(1).values[0, 0]
    line.splice(2, T0, stretch * DT, ramp(116, frames=4), 1)
    assert line.window(1).values[0, 0] == pytest.approx(before, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.sampled_from([2, 3]))
def test_slow_motion_goes_on_from_what_was_sent(ticks: int, stretch: int) -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0, frames=4), 0)
    run(line, ticks)
    line.splice(1, T0, stretch * DT, ramp(0, frames=4), 1)
    due = [v for v in run(line, 64 * stretch) if v is not None]
    np.testing.assert_allclose(np.diff([ticks - 1, *due[:-1]]), 1 / stretch, atol=1e-6)
    assert due[-1] == 63


def test_the_speed_ramps_while_moving_and_not_at_rest() -> None:
    line = timeline(ramp_s=0.1)
    line.splice(1, T0, DT, ramp(0, frames=4), 0)
    run(line, 10)
    speeds = []
    for _ in range(7):
        line.advance(line.instant_ns + DT, 0.0)
        speeds.append(line.speed)
    np.testing.assert_allclose(speeds, [0.8, 0.6, 0.4, 0.2, 0, 0, 0], atol=1e-12)
    assert line.window(3).values[:, 0].tolist() == [pytest.approx(11)] * 3
    assert not line.window(3).velocities.any()


def test_a_caller_who_was_held_up_does_not_skip_motion() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    run(line, 4)
    line.advance(line.instant_ns + 10 * DT)
    assert line.window(1).values[0, 0] == 5
    assert line.lag_ns == 8 * DT


def test_a_chunk_that_leaves_out_latent_frames_is_refused() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 0)
    with pytest.raises(ChunkError, match='begins with latent frame 4, but 2 before it never came'):
        line.splice(4, T0, DT, ramp(3 * ROWS), 1)
    run(line, ROWS + 3)
    with pytest.raises(ChunkError, match='begins with latent frame 3, but 1 before it never came'):
        line.splice(3, line.instant_ns, DT, ramp(2 * ROWS), 1)
    assert line.splice(2, line.instant_ns, DT, ramp(ROWS), 1).appended == ROWS


def test_duplicate_and_older_chunks_are_ignored() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 4)
    assert line.splice(1, T0, DT, ramp(99), 4).duplicate
    assert line.splice(1, T0, DT, ramp(99), 2).duplicate
    np.testing.assert_allclose(run(line, 16), np.arange(16))


def test_clear_forgets_the_plan_and_the_chunks() -> None:
    line = timeline()
    line.splice(1, T0, DT, ramp(0), 4)
    run(line, 3)
    line.clear()
    assert line.window(1) is None
    assert line.lag_ns == 0
    assert line.splice(9, line.instant_ns, DT, ramp(5), 0).appended == 16
    assert run(line, 1) == [5]


@pytest.mark.parametrize(('change', 'message'), [
    ({'start_ns': T0 + 2_100_000_000}, r'begins 2\.100 s after the motion before it; longer waits than 2 s'),
    ({'start_ns': T0 - 2_100_000_000}, r'was to begin 2\.100 s ago; one older than 2 s'),
    ({'dt_ns': DT - 1}, r'an action lasts 20 ms; it must last from 20 \(the control period\) to 1000 ms'),
    ({'dt_ns': -DT}, 'an action lasts -20 ms'),
    ({'actions': ramp(0)[:15]}, '15 actions are no latent frames of 16'),
    ({'actions': ramp(0)[:0]}, '0 actions are no latent frames'),
    ({'actions': ramp(0)[:, :2]}, r'they must be \[rows, 3\]'),
    ({'actions': np.full((16, 3), np.nan)}, 'must be finite'),
    ({'actions': ramp(0, frames=65)}, f'1040 more would exceed {MAX_PLANNED}'),
])  # fmt: skip
def test_what_cannot_be_carried_out_is_refused_and_changes_nothing(change, message) -> None:
    line = timeline()
    line.splice(0, T0, DT, ramp(0), 0)
    good = {'first_latent_index': 1, 'start_ns': T0, 'dt_ns': DT, 'actions': ramp(16), 'chunk': 1}
    if 'start_ns' in change and change['start_ns'] > T0:
        change = {'start_ns': change['start_ns'] + 16 * DT}
    with pytest.raises(ChunkError, match=message):
        line.splice(**(good | change))
    line.splice(**good)
    np.testing.assert_allclose(run(line, 32), np.arange(32))


def test_nothing_is_planned_before_the_first_command() -> None:
    with pytest.raises(ChunkError, match='no command was sent yet'):
        Timeline(JOINTS, DT, ROWS).splice(1, T0, DT, ramp(0), 0)


@pytest.mark.parametrize('speed', [-0.1, 1.1, float('nan')])
def test_a_speed_is_from_0_to_1(speed: float) -> None:
    with pytest.raises(ValueError, match='it must be from 0 to 1'):
        timeline().advance(T0 + DT, speed)


def test_the_plan_does_not_grow() -> None:
    line = timeline()
    for chunk in range(60):
        line.splice(chunk, line.instant_ns, DT, ramp(16 * chunk), chunk)
        run(line, 15 if chunk % 2 else 17)
        assert len(line.plan.due) < 4 * ROWS
