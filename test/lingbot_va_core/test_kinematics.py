"""Forward kinematics are MuJoCo's own, inverse kinematics lead back, and what cannot be reached is said to be so."""

from pathlib import Path

import gym_aloha
import mujoco
import numpy as np
import pytest

from lingbot_va_core.kinematics import ArmKinematics, Chain, Kinematics, KinematicsError
from lingbot_va_core.limits import JointLimits
from lingbot_va_core.rotations import from_matrices, from_roll_pitch_yaw, multiply, to_matrices, to_rotation_vectors

MJCF = Path(gym_aloha.__file__).parent / 'assets' / 'bimanual_viperx_transfer_cube.xml'
NAMES = ('waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate')
TOOL = (0.1347, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
HOME = np.array([0.0, -0.96, 1.16, 0.0, -0.3, 0.0])
DT = 0.02
URDF = """<robot name="two_links">
  <link name="base">
    <visual><geometry><mesh filename="package://nowhere/base.stl"/></geometry></visual>
    <collision><geometry><mesh filename="package://nowhere/base.stl"/></geometry></collision>
  </link>
  <link name="mount"/> <link name="upper"/> <link name="lower"/> <link name="tool"/>
  <joint name="fixed" type="fixed"><parent link="base"/><child link="mount"/><origin xyz="0 0 1" rpy="0 0 0.5"/></joint>
  <joint name="first" type="revolute"><parent link="mount"/><child link="upper"/><axis xyz="0 0 1"/>
    <origin xyz="0 0 0.1" rpy="0.1 0.2 0.3"/><limit lower="-1" upper="2" velocity="3" effort="1"/></joint>
  <joint name="second" type="continuous"><parent link="upper"/><child link="lower"/><axis xyz="0 1 0"/>
    <origin xyz="0.3 0 0.1"/><limit velocity="2.5" effort="1"/></joint>
  <joint name="tip" type="fixed"><parent link="lower"/><child link="tool"/><origin xyz="0.2 0 0"/></joint>
</robot>"""


def chain(side: str, **changes: object) -> Chain:
    fields = {'side': side, 'joints': tuple(f'vx300s_{side}/{name}' for name in NAMES), 'offset': TOOL,
              'tool_frame': f'vx300s_{side}/gripper_link', 'base_frame': f'vx300s_{side}'}  # fmt: skip
    return Chain(**(fields | changes))


@pytest.fixture(scope='module')
def aloha() -> Kinematics:
    return Kinematics.from_file(MJCF, [chain('left'), chain('right')])


@pytest.fixture
def arm(aloha: Kinematics) -> ArmKinematics:
    left = aloha.arms['left']
    left.set_limits(limits(), DT)
    return left


def limits(speed: float = 3.14) -> JointLimits:
    no = np.full(6, np.inf)
    return JointLimits(-no, no, np.full(6, speed), no)


def reach(arm: ArmKinematics, joints: np.ndarray, pose: np.ndarray, periods: int = 300) -> list:
    solutions = []
    for _ in range(periods):
        solutions.append(arm.track(joints, pose))
        joints = solutions[-1].joints
        if solutions[-1].reached or solutions[-1].unreachable:
            break
    return solutions


@pytest.mark.parametrize('side', ['left', 'right'])
def test_forward_kinematics_are_those_of_the_simulated_robot(aloha: Kinematics, side: str) -> None:
    model = mujoco.MjModel.from_xml_path(str(MJCF))
    data = mujoco.MjData(model)
    random = np.random.default_rng(0)
    base, gripper = model.body(f'vx300s_{side}').id, model.body(f'vx300s_{side}/gripper_link').id
    for joints in random.uniform(-1.2, 1.2, (20, 6)):
        for name, value in zip(NAMES, joints, strict=True):
            data.joint(f'vx300s_{side}/{name}').qpos[0] = value
        mujoco.mj_forward(model, data)
        axes = data.xmat[base].reshape(3, 3)
        tool = data.xpos[gripper] + data.xmat[gripper].reshape(3, 3) @ TOOL[:3]
        pose = aloha.arms[side].pose(joints)
        np.testing.assert_allclose(pose[:3], axes.T @ (tool - data.xpos[base]), atol=1e-9)
        turn = from_matrices(axes.T @ data.xmat[gripper].reshape(3, 3))
        np.testing.assert_allclose(to_matrices(pose[3:]), to_matrices(turn), atol=1e-9)
        assert pose[6] >= 0


def test_joints_lie_in_the_joint_vector_arm_by_arm(aloha: Kinematics) -> None:
    assert {side: at.tolist() for side, at in aloha.indices.items()} == {
        'left': [0, 1, 2, 3, 4, 5], 'right': [6, 7, 8, 9, 10, 11]}  # fmt: skip
    found = aloha.limits(13)
    np.testing.assert_allclose(found.lower[6:8], [-3.14158, -1.85005])
    np.testing.assert_allclose(found.upper[1:3], [1.25664, 1.6057])
    assert np.isinf(found.velocity).all()
    assert found.lower[12] == -np.inf


def test_a_pose_leads_back_to_joints_that_reach_it(arm: ArmKinematics) -> None:
    random = np.random.default_rng(1)
    for _ in range(40):
        goal = random.uniform(arm.limits.lower, arm.limits.upper)
        start = np.clip(goal + random.normal(0, 0.3, 6), arm.limits.lower, arm.limits.upper)
        pose = arm.pose(goal)
        pose[3:] *= random.choice([-1, 1])
        last = reach(arm, start, pose)[-1]
        assert last.reached, (goal, start, last)
        found = arm.pose(last.joints)
        np.testing.assert_allclose(found[:3], pose[:3], atol=1e-3)
        turned = multiply(found[3:] * [-1, -1, -1, 1], pose[3:])
        assert np.linalg.norm(to_rotation_vectors(turned)) < 1e-2


def test_a_moving_tool_is_followed_by_one_solve_per_period(arm: ArmKinematics) -> None:
    joints = HOME
    way = HOME + 0.3 * np.sin(np.arange(100)[:, None] * 0.04) * [1, 1, -1, 1, 1, 1]
    for pose in arm.poses(way):
        solution = arm.track(joints, pose)
        joints = solution.joints
        assert solution.position_error < 1e-3
        assert solution.rotation_error < 1e-2
    np.testing.assert_allclose(joints, way[-1], atol=0.02)


@pytest.mark.parametrize('away', [[2.0, 0, 0], [0, 0, -1.5], [-0.3, 0.8, 0.9]])
def test_what_cannot_be_reached_is_approached_within_the_limits_and_told(arm: ArmKinematics, away: list[float]) -> None:
    pose = arm.pose(HOME)
    pose[:3] += away
    joints = HOME
    for solution in (solutions := reach(arm, HOME, pose)):
        assert np.isfinite(solution.joints).all()
        assert (np.abs(solution.joints - joints) <= 3.14 * DT + 1e-6).all()
        assert (solution.joints >= arm.limits.lower).all()
        assert (solution.joints <= arm.limits.upper).all()
        joints = solution.joints
    assert solutions[-1].unreachable
    assert not solutions[-1].reached
    assert not solutions[0].unreachable
    assert solutions[-1].position_error < np.linalg.norm(away)


def test_a_singular_arm_moves_on_without_leaping(arm: ArmKinematics) -> None:
    stretched = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # forearm roll and wrist rotation share an axis
    pose = arm.pose(stretched)
    pose[1] += 0.05
    pose[3:] = multiply(pose[3:], from_roll_pitch_yaw(np.array([0.1, 0.1, 0.1])))
    joints = stretched
    for solution in reach(arm, stretched, pose):
        assert (np.abs(solution.joints - joints) <= 3.14 * DT + 1e-6).all()
        joints = solution.joints
    assert solution.position_error < 5e-3


def test_a_step_keeps_the_speed_limit_over_all_iterations(arm: ArmKinematics) -> None:
    arm.set_limits(limits(speed=0.5), DT)
    solution = arm.track(HOME, arm.pose(HOME + 0.4), iterations=4)
    assert np.abs(solution.joints - HOME).max() == pytest.approx(0.5 * DT, rel=1e-3)
    assert not solution.unreachable


def test_tighter_limits_than_the_files_are_kept(arm: ArmKinematics) -> None:
    no = np.full(6, np.inf)
    arm.set_limits(JointLimits(HOME - 0.1, HOME + 0.1, no, no), DT)
    last = reach(arm, HOME, arm.pose(HOME + 0.3))[-1]
    assert (np.abs(last.joints - HOME) <= 0.1 + 1e-9).all()
    assert last.unreachable


def test_a_urdf_needs_no_meshes_and_brings_its_speed_limits(tmp_path: Path) -> None:
    path = tmp_path / 'robot.urdf'
    path.write_text(URDF)
    arm = ArmKinematics(path, Chain('left', ('second', 'first'), 'tool', 'mount'))
    assert arm.limits.lower.tolist() == [-np.inf, -1]
    assert arm.limits.velocity.tolist() == [2.5, 3]
    second, first = 0.4, -0.3
    axes = to_matrices(from_roll_pitch_yaw(np.array([0.1, 0.2, 0.3]))) @ to_matrices(
        from_roll_pitch_yaw(np.array([0, 0, first])))  # fmt: skip
    lower = axes @ to_matrices(from_roll_pitch_yaw(np.array([0, second, 0])))
    pose = arm.pose(np.array([second, first]))
    np.testing.assert_allclose(pose[:3], [0, 0, 0.1] + axes @ [0.3, 0, 0.1] + lower @ [0.2, 0, 0], atol=1e-9)
    np.testing.assert_allclose(to_matrices(pose[3:]), lower, atol=1e-9)


def test_a_speed_of_zero_in_a_urdf_means_that_nobody_measured_it(tmp_path: Path) -> None:
    path = tmp_path / 'robot.urdf'
    path.write_text(URDF.replace('velocity="3"', 'velocity="0"'))
    arm = ArmKinematics(path, Chain('left', ('first', 'second'), 'tool', 'mount'))
    assert arm.limits.velocity.tolist() == [np.inf, 2.5]


def test_no_tool_moves_farther_than_the_levers_of_its_joints_say(aloha: Kinematics, tmp_path: Path) -> None:
    (tmp_path / 'robot.urdf').write_text(URDF)
    small = ArmKinematics(tmp_path / 'robot.urdf', Chain('left', ('first', 'second'), 'tool', 'mount'))
    np.testing.assert_allclose(small.levers, [np.hypot(0.3, 0.1) + 0.2, 0.2])
    random = np.random.default_rng(2)
    for arm in (small, *aloha.arms.values()):
        lower, upper = np.maximum(arm.limits.lower, -3), np.minimum(arm.limits.upper, 3)
        for size in (0.01, 0.3, 3.0):
            before = random.uniform(lower, upper, (100, len(lower)))
            after = before + random.normal(0, size, before.shape)
            moved = np.linalg.norm(arm.positions(after) - arm.positions(before), axis=1)
            assert (moved <= np.abs(after - before) @ arm.levers + 1e-9).all()


def test_frames_may_be_sites_that_are_turned(tmp_path: Path) -> None:
    site = chain('left', tool_frame='tip', base_frame='root', offset=(0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0), joints=('j',))
    xml = """<mujoco><worldbody><site name="root" pos="0 0 1"/><body name="a"><joint name="j" axis="0 0 1"/>
      <geom size="0.1"/><site name="tip" pos="1 0 0" euler="0 90 0"/></body></worldbody></mujoco>"""
    path = tmp_path / 'robot.xml'
    path.write_text(xml)
    arm = ArmKinematics(path, site)
    np.testing.assert_allclose(arm.pose(np.array([np.pi / 2]))[:3], [0, 1.1, -1], atol=1e-9)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'joints': ('waist',)}, 'has no joint waist; its joints are vx300s_left/waist, '),
    ({'tool_frame': 'hand'}, 'has no body, link or site hand; its bodies are world, '),
    ({'base_frame': 'torso'}, 'has no body, link or site torso'),
    ({'base_frame': 'vx300s_left/upper_arm_link'}, 'moves with the joints of the arm'),
    ({'joints': ('red_box_joint',)}, 'neither turns about nor slides along one axis'),
])  # fmt: skip
def test_what_the_file_lacks_is_named(changes: dict, message: str) -> None:
    with pytest.raises(KinematicsError, match=message):
        ArmKinematics(MJCF, chain('left', **changes))


def test_a_file_that_is_no_robot_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'robot.urdf'
    for content in ('', 'not xml', '<mujoco><worldbody><body/></mujoco>'):
        path.write_text(content)
        with pytest.raises(KinematicsError, match=r'robot\.urdf cannot be read: .'):
            ArmKinematics(path, chain('left'))
    with pytest.raises(KinematicsError, match=r'none\.xml cannot be read'):
        ArmKinematics(tmp_path / 'none.xml', chain('left'))
