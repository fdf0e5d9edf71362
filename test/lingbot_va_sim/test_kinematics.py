"""Inverse kinematics finds the angles of a pose, near its seed, and says what it cannot reach."""

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.experts.aloha import ARM_JOINTS
from lingbot_va_sim.kinematics import ArmKinematics, UnreachableError, rotation_vector
from lingbot_va_sim.simulation import Simulation

START = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0])


@pytest.fixture(scope='module')
def arm() -> ArmKinematics:
    profile = load_profile('aloha')
    model, tool = Simulation(profile, 'transfer_cube').robot.model, profile.arms[1].end_effector
    return ArmKinematics(model, [f'vx300s_right/{name}' for name in ARM_JOINTS], tool.tool_frame, tool.offset[:3])


def test_angles_come_back_from_the_pose_that_they_make(arm):
    random = np.random.default_rng(0)
    for _ in range(20):
        angles = np.clip(START + random.uniform(-0.5, 0.5, 6), arm.lower, arm.upper)
        position, rotation = arm.pose(angles)
        found = arm.solve(position, rotation, angles + random.uniform(-0.1, 0.1, 6))
        at, orientation = arm.pose(found)
        assert np.linalg.norm(at - position) < 1e-4
        assert np.linalg.norm(rotation_vector(rotation @ orientation.T)) < 1e-3
        assert ((found >= arm.lower) & (found <= arm.upper)).all()


def test_a_pose_out_of_reach_is_refused_with_the_distance(arm):
    with pytest.raises(UnreachableError, match=r'the tool stays \d+\.\d mm and .* from \[-2\.0, 0\.5, 0\.2\]'):
        arm.solve(np.array([-2.0, 0.5, 0.2]), arm.pose(START)[1], START)


@pytest.mark.parametrize('vector', [(0, 0, 0), (0.3, 0, 0), (0, -1.2, 0.4), (0, 0, 3.1)])
def test_rotation_vectors_are_axis_times_angle(vector):
    angle = np.linalg.norm(vector)
    x, y, z = np.array(vector) / angle if angle else np.zeros(3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    assert np.allclose(rotation_vector(rotation), vector)
