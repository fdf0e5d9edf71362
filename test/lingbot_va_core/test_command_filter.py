"""Whatever is asked for, what goes out respects the limits, in the look-ahead as well."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.command_filter import CommandFilter, Motion
from lingbot_va_core.limits import ACCELERATION, POSITION, VELOCITY, JointLimits
from lingbot_va_core.robot import load_profile

DT = 0.02
PERIODS = 15
PROFILE = load_profile('aloha')
LIMITS = JointLimits(*(PROFILE.limits(field) for field in ('lower', 'upper', 'velocity', 'acceleration')))
HOME = PROFILE.limits('home')
EXCESS = 1e-9


def make_filter(position: np.ndarray = HOME) -> CommandFilter:
    command_filter = CommandFilter(LIMITS, DT)
    command_filter.reset(position)
    return command_filter


def follow(command_filter: CommandFilter, target: np.ndarray, periods: int = 1) -> Motion:
    """Follow a target that stands still."""
    return command_filter.follow(np.repeat(target[None], periods, axis=0), np.zeros((periods, len(target))), PERIODS)


def random_targets(seed: int, count: int, kind: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == 'jumps':  # far outside the limits, too
        return rng.uniform(2 * LIMITS.lower - 0.1, 2 * LIMITS.upper + 0.1, (count, len(HOME)))
    if kind == 'corners':
        return np.where(rng.random((count // 10 + 1, len(HOME))) < 0.5, LIMITS.lower, LIMITS.upper).repeat(10, axis=0)
    return HOME + np.cumsum(rng.normal(0, rng.choice([0.002, 0.02]), (count, len(HOME))), axis=0)


def assert_within_limits(path: np.ndarray, velocity: np.ndarray) -> None:
    """Check positions [n, joints], the first of which was sent at `velocity`."""
    velocities = np.diff(path, axis=0) / DT
    assert np.all(path[1:] >= LIMITS.lower - EXCESS)
    assert np.all(path[1:] <= LIMITS.upper + EXCESS)
    assert np.all(np.abs(velocities) <= LIMITS.velocity + EXCESS)
    assert np.all(np.abs(np.diff([velocity, *velocities], axis=0)) <= LIMITS.acceleration * DT + 1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(['jumps', 'corners', 'walk']), st.booleans())
def test_the_command_and_all_of_the_look_ahead_stay_within_the_limits(seed: int, kind: str, moving: bool) -> None:
    command_filter = make_filter()
    targets = random_targets(seed, 60, kind)
    velocities = np.gradient(targets, DT, axis=0) if moving else np.zeros_like(targets)
    for k in range(50):
        before, velocity = command_filter.position, command_filter.velocity
        if k % 20 == 19:
            motion = command_filter.hold(PERIODS)
        else:
            motion = command_filter.follow(targets[k : k + 8], velocities[k : k + 8], PERIODS)
        assert_within_limits(np.vstack([before, motion.positions]), velocity)
        np.testing.assert_array_equal(motion.positions[0], command_filter.position)
        np.testing.assert_allclose(motion.positions[-1], motion.positions[-2], atol=EXCESS)  # at rest
        assert not motion.velocities[-1].any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0002, 0.02))
def test_all_periods_at_once_are_what_they_are_one_by_one(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    targets = HOME + np.cumsum(np.cumsum(rng.normal(0, size, (12, len(HOME))) * LIMITS.acceleration * DT**2, axis=0), 0)
    velocities = np.diff(targets, axis=0, append=targets[-1:]) / DT
    at_once, one_by_one = make_filter(), make_filter()
    for k in range(6):
        motion = at_once.follow(targets[k : k + 6], velocities[k : k + 6], PERIODS)
        limits = one_by_one.step(targets[k], velocities[k])
        np.testing.assert_allclose(motion.positions[0], one_by_one.position, atol=1e-12)
        np.testing.assert_array_equal(motion.limits, limits)
        ahead = one_by_one.copy()
        for j in range(1, 3):
            ahead.step(targets[k + j], velocities[k + j])
            np.testing.assert_allclose(motion.positions[j], ahead.position, atol=1e-9)


def test_a_feasible_motion_is_followed_exactly() -> None:
    command_filter = make_filter()
    times = np.arange(1, 200)[:, None] * DT
    targets = HOME + np.minimum(0.1 * LIMITS.velocity, 0.1) * 0.05 * (1 - np.cos(2 * times))
    for k in range(len(targets) - 1):
        motion = command_filter.follow(targets[k : k + 1], (targets[k + 1 : k + 2] - targets[k]) / DT, PERIODS)
        assert not motion.limits.any()
        np.testing.assert_allclose(motion.positions[0], targets[k], atol=1e-9)


def test_a_constant_target_is_reached_without_overshoot() -> None:
    command_filter = make_filter()
    goal = HOME + 0.3 * (LIMITS.upper - HOME)
    for _ in range(150):
        follow(command_filter, goal)
        assert np.all(command_filter.position <= goal + EXCESS)
    np.testing.assert_allclose(command_filter.position, goal, atol=1e-6)


def test_velocities_are_those_of_a_smooth_curve_through_the_points() -> None:
    command_filter = make_filter()
    before = command_filter.position
    motion = follow(command_filter, HOME + 0.1, periods=5)
    path = np.vstack([before, motion.positions])
    np.testing.assert_allclose(motion.velocities[:-1], (path[2:] - path[:-2]) / (2 * DT), atol=1e-12)


def test_each_limit_is_named_at_the_joint_that_it_changed() -> None:
    elbow = 2
    target = HOME.copy()
    target[elbow] = LIMITS.upper[elbow] + 0.5
    command_filter = make_filter()
    seen = set()
    for _ in range(80):
        motion = follow(command_filter, target)
        assert not np.delete(motion.limits, elbow).any()
        seen.add(int(motion.limits[elbow]))
    assert motion.limits[elbow] == POSITION
    assert any(bits & ACCELERATION for bits in seen)
    assert any(bits & VELOCITY for bits in seen)
    target[elbow] = LIMITS.upper[elbow] - 0.1
    for _ in range(80):
        motion = follow(command_filter, target)
    assert not motion.limits.any()


def test_a_target_that_moves_too_fast_is_limited_by_velocity() -> None:
    command_filter, waist = make_filter(), np.arange(len(HOME)) == 0
    for k in range(20):
        motion = command_filter.follow((HOME + waist * 0.1 * (k + 1))[None], (waist * 5.0)[None], PERIODS)
    assert motion.limits[0] & VELOCITY
    assert command_filter.velocity[0] == pytest.approx(LIMITS.velocity[0])


def test_gross_targets_are_told_from_fast_ones() -> None:
    command_filter = CommandFilter(LIMITS, DT, gross_s=0.5)
    command_filter.reset(HOME)
    assert not command_filter.gross(HOME + 0.49 * LIMITS.velocity).any()
    for bad in (HOME[0] + 0.51 * LIMITS.velocity[0], HOME[0] - 0.51 * LIMITS.velocity[0], np.nan, np.inf, -np.inf):
        target = HOME.copy()
        target[0] = bad
        assert np.flatnonzero(command_filter.gross(target)).tolist() == [0]


def test_hold_foretells_what_holding_does_and_ends_at_rest() -> None:
    command_filter = make_filter()
    for _ in range(20):
        follow(command_filter, LIMITS.upper)
    foretold = command_filter.hold(PERIODS).positions
    for position in foretold[1:]:
        np.testing.assert_allclose(command_filter.hold(PERIODS).positions[0], position, atol=1e-12)
    assert np.all(command_filter.velocity == pytest.approx(0, abs=1e-12))


def test_a_copy_looks_ahead_without_moving_the_original() -> None:
    command_filter = make_filter()
    follow(command_filter, LIMITS.upper)
    before = command_filter.position.copy()
    ahead = command_filter.copy()
    for _ in range(5):
        follow(ahead, LIMITS.upper)
    np.testing.assert_array_equal(command_filter.position, before)


def test_a_joint_measured_outside_its_limits_is_led_back_gently() -> None:
    outside = LIMITS.upper + 0.05 * (LIMITS.upper - LIMITS.lower)
    command_filter = make_filter(outside)
    previous = command_filter.velocity
    for _ in range(300):
        follow(command_filter, HOME)
        assert np.all(np.abs(command_filter.velocity - previous) <= LIMITS.acceleration * DT + EXCESS)
        previous = command_filter.velocity
    np.testing.assert_allclose(command_filter.position, HOME, atol=1e-6)
