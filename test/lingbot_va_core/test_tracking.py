"""What counts as following."""

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_core.tracking import TrackingError

PROFILE = load_profile('aloha')
HOME = PROFILE.limits('home')


def test_a_joint_anywhere_within_the_recent_commands_follows() -> None:
    tracking = TrackingError(PROFILE, 10)
    tracking.reset(HOME)
    for k in range(10):
        tracking.add(HOME + 0.01 * (k + 1))
    assert tracking.worst(HOME + 0.02) == (0.0, PROFILE.joints[0].name)
    assert tracking.worst(HOME + 0.1)[0] == 0.0
    assert tracking.worst(HOME)[0] == pytest.approx(0.01)  # the oldest command is forgotten


def test_the_joint_that_is_furthest_away_is_named_and_grippers_do_not_count() -> None:
    tracking = TrackingError(PROFILE, 10)
    tracking.reset(HOME)
    measured = HOME.copy()
    names = [joint.name for joint in PROFILE.joints]
    measured[names.index('left_gripper')] += 5.0
    assert tracking.worst(measured)[0] == 0.0
    measured[names.index('right_elbow')] -= 0.3
    measured[names.index('left_waist')] += 0.1
    error, name = tracking.worst(measured)
    assert (error, name) == (pytest.approx(0.3), 'right_elbow')
    assert np.isfinite(error)
