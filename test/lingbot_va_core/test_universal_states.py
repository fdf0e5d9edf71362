"""Joint vectors in the form in which data sets hold them."""

from dataclasses import replace

import numpy as np
import pytest
from poseable_robot import aloha

from lingbot_va_core.kinematics import Kinematics
from lingbot_va_core.robot import ProfileError, load_profile
from lingbot_va_core.universal_states import UniversalStates


def test_joints_go_to_their_channels():
    profile = load_profile('aloha')
    joints = np.stack([profile.limits('home'), profile.limits('home') + 0.01])
    rows = UniversalStates(profile).convert(joints)
    assert rows.dtype == np.float32 and rows.shape == (2, 30)
    assert np.allclose(rows[:, profile.joint_channels], joints) and not rows[:, ~profile.mask].any()


def test_poses_are_where_the_joints_bring_the_tools_and_their_signs_never_jump():
    profile = aloha(in_action=True)
    turn = np.zeros(len(profile.joints))
    turn[5] = 1.0  # the last joint of the left wrist
    joints = profile.limits('home') + np.linspace(0, 5, 60)[:, None] * turn
    states = UniversalStates(profile)
    rows = np.concatenate([states.convert(joints[:30]), states.convert(joints[30:])])
    solver = Kinematics.from_profile(profile).arms['left']
    assert np.allclose(rows[40, :3], solver.pose(joints[40, :6])[:3], atol=1e-6)
    assert (np.sum(rows[1:, 3:7] * rows[:-1, 3:7], axis=1) > 0.9).all()
    assert rows[:, 6].min() < 0  # which a quaternion with w >= 0 would hide


def test_an_arm_that_is_only_a_pose_cannot_be_measured():
    profile = aloha(in_action=True)
    left, right = profile.arms
    with pytest.raises(ProfileError, match='the pose of the left arm of aloha cannot be known'):
        UniversalStates(replace(profile, arms=(replace(left, joints=()), right)))
