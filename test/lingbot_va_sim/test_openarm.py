"""OpenArm: it holds, moves what the profile names, shows its task to the cameras, and hands a cube over."""

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import default_task

CUBE = 'red_cube_joint'
GRASP_M = 0.15  # from the frame of the hand to between its fingertips


@pytest.fixture(scope='module')
def profile() -> RobotProfile:
    return load_profile('openarm')


@pytest.fixture(scope='module')
def simulation(profile: RobotProfile) -> Iterator[Simulation]:
    with Simulation(profile, 'hand_over', seed=3) as simulation:
        yield simulation


def settle(simulation: Simulation, targets: np.ndarray, periods: int = 40) -> None:
    simulation.set_targets(targets)
    for _ in range(periods):
        simulation.step()


def place(simulation: Simulation, position: np.ndarray, rotation: np.ndarray | None = None) -> int:
    """Put the cube somewhere, for no longer than this instant, and return the stage that is reached then."""
    joint = simulation.data.joint(CUBE)
    joint.qpos[:3] = position
    joint.qpos[3:] = (1, 0, 0, 0)
    if rotation is not None:
        mujoco.mju_mat2Quat(joint.qpos[3:], rotation.ravel())
    mujoco.mj_forward(simulation.robot.model, simulation.data)
    simulation._judge()
    return simulation.reward


def grasp(simulation: Simulation, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where the fingertips of a hand meet, and how the hand is turned."""
    hand = simulation.data.body(f'openarm_{side}_ee_base_link')
    rotation = hand.xmat.reshape(3, 3).copy()
    return hand.xpos + rotation @ (0.0, 0.0, -GRASP_M), rotation


def test_it_holds_its_start_pose(simulation: Simulation) -> None:
    simulation.reset(3)
    settle(simulation, simulation.robot.start_positions, 100)
    assert simulation.joint_positions == pytest.approx(simulation.robot.start_positions, abs=0.04)  # it has weight
    assert np.abs(simulation.joint_velocities).max() < 0.01
    assert simulation.reward == 0 and not simulation.succeeded


def test_every_joint_of_the_profile_moves_alone_and_both_grippers_open(simulation: Simulation) -> None:
    for index, joint in enumerate(simulation.profile.joints):
        simulation.reset(3)
        start = simulation.robot.start_positions
        targets = start.copy()
        step = 0.15 if joint.name == 'openarm_right_finger_joint1' else -0.15  # where there is room
        targets[index] += step
        settle(simulation, targets)
        moved = simulation.joint_positions - start
        assert moved[index] == pytest.approx(step, abs=0.05), joint.name
        assert np.abs(np.delete(moved, index)).max() < 0.05, joint.name
    opening = {}
    for name, position in (('closed', 0.0), ('open', 0.7)):
        simulation.reset(3)
        targets = simulation.robot.start_positions
        targets[[7, 15]] = position, -position
        settle(simulation, targets)
        for side in ('left', 'right'):
            inner, outer = (simulation.data.geom(f'finger_{f}_{side}_collision_01').xpos for f in ('inner', 'outer'))
            opening[side, name] = np.linalg.norm(inner - outer)
    for side in ('left', 'right'):
        assert opening[side, 'open'] > opening[side, 'closed'] + 0.08


def test_the_start_pose_and_the_limits_of_the_profile_are_those_of_the_model(simulation: Simulation) -> None:
    robot, profile = simulation.robot, simulation.profile
    assert np.all(robot.start_positions >= profile.limits('lower'))
    assert np.all(robot.start_positions <= profile.limits('upper'))
    for joint in profile.joints:
        drive = robot.description.drives[joint.name][0]
        limits = sorted(drive.sign * limit for limit in robot.model.joint(drive.joint).range)
        assert limits[0] - 1e-4 <= joint.lower and joint.upper <= limits[1] + 1e-4, joint.name


@pytest.mark.parametrize('seed', [0, 1, 2, 3])
def test_the_cameras_that_matter_see_the_cube(simulation: Simulation, seed: int) -> None:
    simulation.reset(seed)
    for camera in ('cam_high', 'cam_right_wrist'):
        image = simulation.render(camera).astype(int)
        red = (image[..., 0] > 90) & (image[..., 0] > 2 * image[..., 1]) & (image[..., 0] > 2 * image[..., 2])
        assert red.sum() > 60, camera
    assert simulation.render('cam_left_wrist').std() > 10


def test_the_cube_starts_where_the_seed_puts_it_at_rest_on_the_table(simulation: Simulation) -> None:
    starts = []
    for seed in range(5):
        simulation.reset(seed)
        start = simulation.data.joint(CUBE).qpos[:3].copy()
        settle(simulation, simulation.robot.start_positions, 25)
        assert simulation.data.joint(CUBE).qpos[:3] == pytest.approx(start, abs=0.001)
        starts.append(start)
    assert len({tuple(start) for start in starts}) == 5


def test_the_stages_of_the_hand_over_are_rewarded(simulation: Simulation) -> None:
    simulation.reset(3)
    targets = simulation.robot.start_positions
    targets[[7, 15]] = 0.22, -0.22  # the fingers stand 4 cm apart
    settle(simulation, targets)
    right, left = grasp(simulation, 'right'), grasp(simulation, 'left')
    assert place(simulation, np.array([0.6, 0.0, 1.2])) == 0
    assert place(simulation, *right) == 2
    assert not simulation.succeeded
    assert place(simulation, *left) == 4
    assert simulation.success and simulation.succeeded
    joint = simulation.data.joint(CUBE)
    place(simulation, np.array([0.6, 0.0, 1.2]))
    assert not simulation.success and simulation.succeeded
    table = simulation.robot.model.geom('cell_table_col').id
    simulation.robot.model.geom_pos[table, 2] += right[0][2] - 0.02 - 1.005  # lift the table under the cube
    try:
        joint.qpos[:3] = right[0]
        assert place(simulation, *right) == 1
        assert place(simulation, *left) == 0  # not free of the table
    finally:
        simulation.robot.model.geom_pos[table, 2] = 1.0


def test_the_right_hand_can_pick_the_cube_up(simulation: Simulation) -> None:
    """The model's friction and the strength of its fingers suffice: a cube between them stays when the arm rises."""
    simulation.reset(3)
    targets = simulation.robot.start_positions
    settle(simulation, targets)
    where, rotation = grasp(simulation, 'right')
    place(simulation, where, rotation)
    simulation.data.joint(CUBE).qvel[:] = 0.0
    targets[15] = 0.0
    for _ in range(15):  # hold the cube until the fingers have closed on it
        place(simulation, where, rotation)
        simulation.data.joint(CUBE).qvel[:] = 0.0
        settle(simulation, targets, 1)
    targets[8] += 0.3
    settle(simulation, targets, 75)
    assert simulation.reward == 2
    assert simulation.data.joint(CUBE).qpos[:3] == pytest.approx(grasp(simulation, 'right')[0], abs=0.03)


def test_robots_and_tasks_belong_together(profile: RobotProfile) -> None:
    assert default_task(profile).name == 'hand_over'
    assert default_task(load_profile('aloha')).name == 'transfer_cube'
    with pytest.raises(SimulationError, match='the OpenArm model has no joint left_waist'):
        Simulation(load_profile('aloha'), 'hand_over')
    with pytest.raises(SimulationError, match='no simulated robot has the joints of franka_dual; there are ALOHA and'):
        default_task(load_profile('franka_dual'))


def test_the_untrained_model_accepts_the_robot(profile: RobotProfile) -> None:
    model = load_model(None, 'tiny', profile, seed=0)
    assert model.normalizer.used().nonzero().flatten().tolist() == [*range(14, 30)]
