"""Joint states in one message or arm by arm, in any order, and those that contradict themselves."""

import math

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from lingbot_va_core.robot import load_profile
from lingbot_va_ros.conversions import to_time
from lingbot_va_ros.joint_feedback import JointFeedback

PROFILE = load_profile('aloha')
HOME = PROFILE.limits('home')
NAMES = [joint.name for joint in PROFILE.joints]
MS = 1_000_000


def message(names: list[str], positions: list[float], stamp_ns: int = 0) -> JointState:
    state = JointState(name=names, position=positions)
    state.header.stamp = to_time(stamp_ns)
    return state


def test_joints_are_found_by_name_and_foreign_ones_are_left_alone() -> None:
    feedback = JointFeedback(PROFILE)
    assert feedback.missing == NAMES
    assert feedback.add(message(['wheel', *reversed(NAMES)], [7.0, *reversed(HOME.tolist())]), 5)
    np.testing.assert_array_equal(feedback.positions, HOME)
    assert feedback.complete
    assert not feedback.add(message(['wheel'], [8.0]), 100)
    assert feedback.age_ns(25) == 20


def test_the_age_is_that_of_the_joint_that_is_lost_and_the_skew_that_between_arms() -> None:
    feedback = JointFeedback(PROFILE)
    left, right = ([joint.name for joint in arm.joints] for arm in PROFILE.arms)
    feedback.add(message(left, [0.0] * len(left), 1000 * MS), 0)
    assert not feedback.complete
    assert feedback.missing == right
    feedback.add(message(right, [0.0] * len(right), 1030 * MS), 10)
    assert feedback.complete
    assert feedback.skew_ns() == 30 * MS
    feedback.add(message(right, [0.0] * len(right), 1050 * MS), 30)
    assert feedback.age_ns(40) == 40
    assert feedback.skew_ns() == 50 * MS


def test_a_robot_that_does_not_stamp_has_no_skew() -> None:
    feedback = JointFeedback(PROFILE)
    feedback.add(message(NAMES, HOME.tolist()), 0)
    assert feedback.skew_ns() == 0


@pytest.mark.parametrize('positions', [[0.0] * 13, [0.0] * 15, [], [math.nan] + [0.0] * 13, [0.0] * 13 + [math.inf]])
def test_a_message_that_contradicts_itself_changes_nothing(positions: list[float]) -> None:
    feedback = JointFeedback(PROFILE)
    feedback.add(message(NAMES, HOME.tolist()), 0)
    assert not feedback.add(message(NAMES, positions), 10)
    np.testing.assert_array_equal(feedback.positions, HOME)
    assert (feedback.rejected, feedback.age_ns(10)) == (1, 10)


def test_cleared_feedback_knows_nothing() -> None:
    feedback = JointFeedback(PROFILE)
    feedback.add(message(NAMES, HOME.tolist()), 0)
    feedback.clear()
    assert feedback.missing == NAMES
    assert feedback.age_ns(0) > 10**18
