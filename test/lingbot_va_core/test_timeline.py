"""Actions have absolute times, and what was sent is known on the latent clock."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.timeline import ExecutedLog, Timeline

DT = 20_000_000
T0 = 1_700_000_000_000_000_000


def ramp(first: float, count: int = 16) -> np.ndarray:
    """Action k is first + k, in both of two joints."""
    return np.repeat(first + np.arange(count, dtype=float)[:, None], 2, axis=1)


def test_action_k_is_due_one_period_after_the_last() -> None:
    timeline = Timeline(DT)
    assert timeline.splice(T0, ramp(0), chunk=3, now_ns=T0) == 0
    for k in range(16):
        target = timeline.at(T0 + (k + 1) * DT)
        assert target.position.tolist() == [k, k]
        assert (target.chunk, target.index) == (3, k)


def test_between_two_actions_the_target_is_interpolated() -> None:
    timeline = Timeline(DT)
    timeline.splice(T0, ramp(0), 0, T0)
    assert timeline.at(T0 + 3 * DT + DT // 4).position.tolist() == pytest.approx([2.25, 2.25])


def test_nothing_is_due_before_and_after_a_chunk() -> None:
    timeline = Timeline(DT)
    assert timeline.at(T0) is None
    timeline.splice(T0, ramp(0), 0, T0)
    assert timeline.at(T0) is None
    assert timeline.at(T0 + 16 * DT) is not None
    assert timeline.at(T0 + 16 * DT + 1) is None


@given(st.integers(0, 20 * DT))
def test_late_actions_are_dropped_and_counted(delay: int) -> None:
    timeline = Timeline(DT)
    late = timeline.splice(T0, ramp(0), 0, T0 + delay)
    assert late == min(delay // DT, 16)
    following = timeline.at(T0 + (late + 1) * DT)
    assert (following is None) == (late == 16)
    if following is not None:
        assert following.index == late


def test_a_newer_chunk_replaces_the_plan_from_its_first_action_on() -> None:
    timeline = Timeline(DT)
    timeline.splice(T0, ramp(0), 0, T0)
    timeline.splice(T0 + 4 * DT, ramp(100), 1, T0 + 2 * DT)
    assert timeline.at(T0 + 4 * DT).position.tolist() == [3, 3]
    assert timeline.at(T0 + 5 * DT).position.tolist() == [100, 100]
    assert timeline.at(T0 + 4 * DT + DT // 2).position.tolist() == [51.5, 51.5]
    assert timeline.at(T0 + 20 * DT).chunk == 1


def test_clear_forgets_the_plan() -> None:
    timeline = Timeline(DT)
    timeline.splice(T0, ramp(0), 0, T0)
    timeline.clear()
    assert timeline.at(T0 + DT) is None


@given(st.integers(0, DT - 1))
def test_what_was_sent_is_resampled_to_the_latent_clock(phase: int) -> None:
    log = ExecutedLog(64)
    for k in range(30):
        log.add(T0 + k * DT + phase, np.full(2, k * 20.0 + phase / 1e6), limited=False, held=False)
    executed = log.resample(T0 + 5 * DT, DT, 16)
    expected = 20.0 * np.arange(6, 22)
    np.testing.assert_allclose(executed.actions, np.stack([expected, expected], axis=1), atol=1e-6)


def test_limited_and_held_rows_are_counted() -> None:
    log = ExecutedLog(64)
    for k in range(20):
        log.add(T0 + k * DT, np.zeros(2), limited=k in (3, 4), held=k >= 10)
    executed = log.resample(T0, DT, 16)
    assert (executed.limited, executed.held) == (2, 7)


def test_nothing_sent_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match='no command'):
        ExecutedLog(4).resample(T0, DT, 16)
