"""Both outputs from one action: joints from poses, poses from joints, in the same frames."""

import numpy as np
import pytest
from poseable_robot import aloha

from lingbot_va_core.joint_targets import JointTargets
from lingbot_va_core.kinematics import Kinematics, KinematicsError, joint_limits
from lingbot_va_core.limits import UNREACHABLE
from lingbot_va_core.robot import RobotProfile, load_profile

DT = 0.02
HOME = load_profile('aloha').limits('home')


def converter(profile: RobotProfile) -> JointTargets:
    kinematics = Kinematics.from_profile(profile)
    return JointTargets(profile, kinematics, joint_limits(profile, kinematics), DT)


def way(periods: int) -> np.ndarray:
    """Joint vectors of a smooth motion from home, grippers included."""
    swing = np.sin(0.04 * np.arange(1, periods + 1))[:, None] * np.tile([0.2, 0.1, -0.2, 0.1, 0.2, 0.1, 0.01], 2)
    return HOME + swing


def test_joints_in_the_action_pass_unchanged() -> None:
    plain = load_profile('aloha')
    convert = JointTargets(plain, None, joint_limits(plain, None), DT)
    values, velocities = way(8), np.gradient(way(8), DT, axis=0)
    found = convert.targets(values, velocities, HOME)
    np.testing.assert_array_equal(found.positions, values)
    np.testing.assert_array_equal(found.velocities, velocities)
    assert not found.limits.any()
    np.testing.assert_array_equal(convert.action(values[3], values[0]), values[3])


def test_poses_in_the_action_drive_the_joints() -> None:
    profile = aloha(in_action=True, joints_in_action=False)
    convert = converter(profile)
    assert len(profile.channels) == 16  # two poses, two grippers
    actions = [convert.action(HOME, np.zeros(16))]
    for joints in way(60):
        actions.append(convert.action(joints, actions[-1]))
    actions, sent = np.array(actions[1:]), HOME
    for k in range(50):
        found = convert.targets(actions[k : k + 6], np.zeros((6, 16)), sent)
        sent = found.positions[0]
        assert not found.limits.any()
        np.testing.assert_allclose(found.velocities[0, :6], (found.positions[1] - sent)[:6] / DT, atol=1e-9)
        np.testing.assert_allclose(convert.action(sent, actions[k]), actions[k], atol=2e-3)
        np.testing.assert_array_equal(sent[[6, 13]], actions[k][[7, 15]])  # grippers have channels of their own
    np.testing.assert_allclose(sent, way(50)[-1], atol=0.02)


def test_joints_in_the_action_also_say_where_the_tools_are() -> None:
    profile = aloha(in_action=True)
    convert, kinematics = converter(profile), Kinematics.from_profile(profile)
    assert len(profile.channels) == 28
    joints = way(20)[-1]
    action = convert.action(joints, convert.action(HOME, np.zeros(28)))
    np.testing.assert_array_equal(action[profile.channels >= 14], joints)
    for side, first in (('left', 0), ('right', 7)):
        at = np.flatnonzero(profile.channels == first)[0]
        np.testing.assert_allclose(action[at : at + 7], kinematics.arms[side].pose(joints[kinematics.indices[side]]))
    found = convert.targets(action[None], np.zeros((1, 28)), HOME)
    np.testing.assert_array_equal(found.positions[0], joints)  # where both are known, joints are what is commanded


def test_quaternions_of_what_was_sent_do_not_change_their_sign() -> None:
    convert = converter(aloha(in_action=True, joints_in_action=False))
    before = convert.action(HOME, np.zeros(16))
    before[3:7] *= -1
    after = convert.action(HOME, before)
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_an_arm_that_cannot_reach_its_pose_is_told_and_the_other_goes_on() -> None:
    convert = converter(aloha(in_action=True, joints_in_action=False))
    action = convert.action(HOME, np.zeros(16))
    action[2] += 1.5
    action[8] += 0.02
    sent = HOME
    for _ in range(150):
        found = convert.targets(action[None], np.zeros((1, 16)), sent)
        sent = found.positions[0]
    assert found.limits[:6].tolist() == [UNREACHABLE] * 6
    assert not found.limits[6:].any()
    assert convert.action(sent, action)[8] == pytest.approx(action[8], abs=1e-3)


def test_poses_alone_need_kinematics() -> None:
    profile = aloha(in_action=True, joints_in_action=False)
    with pytest.raises(KinematicsError, match='the left arm of aloha needs kinematics; name its URDF or MJCF'):
        JointTargets(profile, None, joint_limits(profile, None), DT)
    with pytest.raises(KinematicsError, match='isaac has no kinematics'):
        Kinematics.from_profile(load_profile('isaac'))
