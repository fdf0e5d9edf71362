"""A tool never leaves its box, whatever is asked for, and joints keep their limits at its walls."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poseable_robot import aloha

from lingbot_va_core.command_filter import CommandFilter
from lingbot_va_core.kinematics import Kinematics, KinematicsError, joint_limits
from lingbot_va_core.limits import WORKSPACE
from lingbot_va_core.robot import Workspace
from lingbot_va_core.workspace import WorkspaceGuard

DT = 0.02
PERIODS = 15
BOX = Workspace((0.15, -0.2, 0.15), (0.45, 0.2, 0.5))  # the tools begin at 0.286, 0, 0.309
PROFILE = aloha(box=BOX)
KINEMATICS = Kinematics.from_profile(PROFILE)
LIMITS = joint_limits(PROFILE, KINEMATICS)
HOME = PROFILE.limits('home')


def make_filter() -> CommandFilter:
    guard = WorkspaceGuard.from_profile(PROFILE, KINEMATICS, LIMITS.acceleration, DT)
    command_filter = CommandFilter(LIMITS, DT, guard)
    command_filter.reset(HOME)
    return command_filter


def tools(positions: np.ndarray) -> np.ndarray:
    """Positions of both tools [n, arms, 3], by the kinematics that tests compare with MuJoCo's."""
    return np.stack([arm.positions(positions[:, KINEMATICS.indices[side]]) for side, arm in KINEMATICS.arms.items()], 1)


def targets(seed: int, count: int) -> np.ndarray:
    """Random places far and near, each asked for during a while, or swept over."""
    random = np.random.default_rng(seed)
    knots = HOME + random.normal(0, random.choice([0.2, 1.0]), (count // 10 + 2, len(HOME)))
    if random.random() < 0.5:
        return knots.repeat(10, axis=0)[:count]
    at = np.linspace(0, len(knots) - 1, count)
    return np.stack([np.interp(at, np.arange(len(knots)), column) for column in knots.T], axis=1)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_neither_the_tool_nor_its_look_ahead_leaves_the_box(seed: int) -> None:
    command_filter, asked = make_filter(), targets(seed, 40)
    velocities = np.diff(asked, axis=0, append=asked[-1:]) / DT
    for k in range(40):
        before, velocity = command_filter.position, command_filter.velocity
        motion = command_filter.follow(asked[k : k + 6], velocities[k : k + 6], PERIODS)
        reached = tools(motion.positions)
        assert np.all(reached >= BOX.lower)
        assert np.all(reached <= BOX.upper)
        speeds = np.diff(np.vstack([before, motion.positions]), axis=0) / DT
        assert np.all(np.abs(speeds) <= LIMITS.velocity + 1e-9)
        assert np.all(np.abs(np.diff([velocity, *speeds], axis=0)) <= LIMITS.acceleration * DT + 1e-7)


def test_between_two_periods_the_tool_stays_inside_as_well() -> None:
    command_filter = make_filter()
    target = HOME.copy()
    target[0] = 2.0  # the waist, at full speed along the wall's normal
    for _ in range(60):
        before = command_filter.position
        after = command_filter.follow(target[None], np.zeros((1, len(HOME))), PERIODS).positions[0]
        reached = tools(before + np.linspace(0, 1, 9)[:, None] * (after - before))
        assert np.all(reached >= BOX.lower)
        assert np.all(reached <= BOX.upper)


def test_the_tool_comes_close_to_the_wall_and_the_limit_is_named_for_its_arm() -> None:
    command_filter = make_filter()
    target = HOME.copy()
    target[0] = 2.0
    for _ in range(120):
        motion = command_filter.follow(target[None], np.zeros((1, len(HOME))), PERIODS)
    assert BOX.upper[1] - tools(motion.positions[:1])[0, 0, 1] < 0.02
    assert motion.limits[0] == WORKSPACE
    assert not motion.limits[1:].any()


def test_one_arm_at_its_wall_does_not_hold_the_other() -> None:
    command_filter = make_filter()
    target = HOME.copy()
    target[0], target[7] = 2.0, 0.3
    for _ in range(120):
        motion = command_filter.follow(target[None], np.zeros((1, len(HOME))), PERIODS)
    assert command_filter.position[7] == pytest.approx(0.3, abs=1e-6)
    assert motion.limits[0] & WORKSPACE


def test_a_tool_that_starts_outside_may_come_back_and_goes_no_farther() -> None:
    command_filter = make_filter()
    outside = HOME.copy()
    outside[0] = 1.0  # y is 0.24
    command_filter.reset(outside)
    farther = outside.copy()
    farther[0] = 1.5
    for _ in range(30):
        command_filter.follow(farther[None], np.zeros((1, len(HOME))), PERIODS)
    assert tools(command_filter.position[None])[0, 0, 1] == pytest.approx(tools(outside[None])[0, 0, 1], abs=1e-3)
    for _ in range(80):
        command_filter.follow(HOME[None], np.zeros((1, len(HOME))), PERIODS)
    np.testing.assert_allclose(command_filter.position, HOME, atol=1e-6)


def test_arms_without_a_box_need_no_guard() -> None:
    assert WorkspaceGuard.from_profile(aloha(), KINEMATICS, LIMITS.acceleration, DT) is None


def test_a_box_needs_a_tool() -> None:
    with pytest.raises(KinematicsError, match='the left arm of aloha has a workspace but no end_effector'):
        WorkspaceGuard.from_profile(PROFILE, Kinematics({}, {}), LIMITS.acceleration, DT)


def test_far_from_the_walls_nothing_is_changed_by_as_much_as_a_rounding() -> None:
    guard = WorkspaceGuard.from_profile(PROFILE, KINEMATICS, LIMITS.acceleration, DT)
    for velocity in np.random.default_rng(0).normal(0, 0.1, (20, len(HOME))):
        np.testing.assert_array_equal(guard.allowed(HOME, velocity, np.full(len(HOME), 0.03)), velocity)
