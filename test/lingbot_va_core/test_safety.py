"""Whatever is asked for, what goes out respects the limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.robot import load_profile
from lingbot_va_core.safety import CommandFilter

DT = 0.02
PROFILE = load_profile('aloha')
LOWER, UPPER, VELOCITY, ACCELERATION, HOME = (
    PROFILE.limits(field) for field in ('lower', 'upper', 'velocity', 'acceleration', 'home')
)
EXCESS = 1e-9


def make_filter(position: np.ndarray = HOME) -> CommandFilter:
    command_filter = CommandFilter(LOWER, UPPER, VELOCITY, ACCELERATION, DT)
    command_filter.reset(position)
    return command_filter


def random_targets(seed: int, count: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == 'jumps':  # far outside the limits, too
        return rng.uniform(2 * LOWER - 0.1, 2 * UPPER + 0.1, (count, len(LOWER)))
    if kind == 'corners':
        return np.where(rng.random((count // 10 + 1, len(LOWER))) < 0.5, LOWER, UPPER).repeat(10, axis=0)[:count]
    return HOME + np.cumsum(rng.normal(0, 0.02, (count, len(LOWER))), axis=0)


@given(st.integers(0, 10**6), st.sampled_from(['jumps', 'corners', 'walk']), st.booleans())
def test_position_velocity_and_acceleration_stay_within_their_limits(seed: int, kind: str, moving: bool) -> None:
    command_filter = make_filter()
    targets = random_targets(seed, 120, kind)
    velocities = np.gradient(targets, DT, axis=0) if moving else np.zeros_like(targets)
    position, velocity = command_filter.position, command_filter.velocity
    for k, (target, target_velocity) in enumerate(zip(targets, velocities, strict=True)):
        if k % 40 == 39:
            command_filter.brake()
        else:
            command_filter.step(target, target_velocity)
        assert np.all(command_filter.position >= LOWER - EXCESS)
        assert np.all(command_filter.position <= UPPER + EXCESS)
        assert np.all(np.abs(command_filter.velocity) <= VELOCITY + EXCESS)
        assert np.all(np.abs(command_filter.velocity - velocity) <= ACCELERATION * DT + EXCESS)
        np.testing.assert_allclose(command_filter.position, position + command_filter.velocity * DT, atol=1e-12)
        position, velocity = command_filter.position, command_filter.velocity


def test_a_feasible_motion_is_followed_exactly() -> None:
    command_filter = make_filter()
    times = np.arange(1, 200)[:, None] * DT
    targets = HOME + np.minimum(0.1 * VELOCITY, 0.1) * 0.05 * (1 - np.cos(2 * times))
    for k in range(len(targets) - 1):
        limited = command_filter.step(targets[k], (targets[k + 1] - targets[k]) / DT)
        assert not limited
        np.testing.assert_allclose(command_filter.position, targets[k], atol=1e-9)


def test_a_constant_target_is_reached_without_overshoot() -> None:
    command_filter = make_filter()
    goal = HOME + 0.3 * (UPPER - HOME)
    for _ in range(150):
        command_filter.step(goal, np.zeros_like(goal))
        assert np.all(command_filter.position <= goal + EXCESS)
    np.testing.assert_allclose(command_filter.position, goal, atol=1e-6)


def test_step_says_when_a_limit_keeps_it_from_the_target() -> None:
    command_filter = make_filter()
    assert command_filter.step(UPPER, np.zeros_like(UPPER))
    assert not make_filter().step(HOME, np.zeros_like(HOME))


def test_stop_foretells_what_braking_does_and_ends_at_rest() -> None:
    command_filter = make_filter()
    for _ in range(20):
        command_filter.step(UPPER, np.zeros_like(UPPER))
    foretold = command_filter.stop(command_filter.stopping_steps)
    for position in foretold:
        command_filter.brake()
        np.testing.assert_allclose(command_filter.position, position, atol=1e-12)
    assert np.all(command_filter.velocity == pytest.approx(0, abs=1e-12))


def test_a_copy_looks_ahead_without_moving_the_original() -> None:
    command_filter = make_filter()
    command_filter.step(UPPER, np.zeros_like(UPPER))
    before = command_filter.position.copy()
    ahead = command_filter.copy()
    for _ in range(5):
        ahead.step(UPPER, np.zeros_like(UPPER))
    np.testing.assert_array_equal(command_filter.position, before)


def test_a_joint_measured_outside_its_limits_is_led_back_gently() -> None:
    outside = UPPER + 0.05 * (UPPER - LOWER)
    command_filter = make_filter(outside)
    previous = command_filter.velocity
    for _ in range(300):
        command_filter.step(HOME, np.zeros_like(HOME))
        assert np.all(np.abs(command_filter.velocity - previous) <= ACCELERATION * DT + EXCESS)
        previous = command_filter.velocity
    np.testing.assert_allclose(command_filter.position, HOME, atol=1e-6)
