"""The simulated robot holds, follows, repeats itself and refuses what it cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from lingbot_va_core.clock import LatentClock
from lingbot_va_core.robot import Camera, RobotProfile, load_profile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.trajectory_controller import Trajectory

PERIOD_NS = 20_000_000


@pytest.fixture(scope='module')
def profile() -> RobotProfile:
    return load_profile('aloha')


@pytest.fixture
def simulation(profile: RobotProfile) -> Simulation:
    return Simulation(profile, 'transfer_cube', seed=3)


def sway(simulation: Simulation, periods: int) -> np.ndarray:
    """Targets that move every joint, [periods, joints]."""
    start, home = simulation.robot.start_positions, simulation.profile.limits('home')
    amplitude = np.where(np.abs(home) < 0.1, 0.03, 0.2)
    phase = np.linspace(0, np.pi, periods)[:, None]
    return start + np.sin(phase) ** 2 * np.where(start == 0.02239, 0.02, amplitude)


def test_start_pose_is_the_published_one_and_is_held(simulation: Simulation) -> None:
    published = [0, -0.96, 1.16, 0, -0.3, 0, 0.02239] * 2
    assert simulation.joint_positions == pytest.approx(published)
    for _ in range(100):
        simulation.step()
    assert simulation.time_ns == 100 * PERIOD_NS
    assert simulation.joint_positions == pytest.approx(published, abs=0.02)  # the drives sag a little
    assert np.abs(simulation.joint_velocities).max() < 0.01
    assert np.array_equal(simulation.targets, published)


def test_follows_targets_with_both_fingers(simulation: Simulation) -> None:
    targets = simulation.robot.start_positions
    targets[[0, 6, 7, 13]] = 0.4, 0.05, -0.4, 0.03
    simulation.set_targets(targets)
    for _ in range(100):
        simulation.step()
    assert simulation.joint_positions == pytest.approx(targets, abs=0.02)
    qpos = simulation.data.qpos
    assert qpos[[6, 7]] == pytest.approx([0.05, -0.05], abs=1e-3)
    assert qpos[[14, 15]] == pytest.approx([0.03, -0.03], abs=1e-3)


def test_same_seed_and_targets_repeat_to_the_bit(simulation: Simulation) -> None:
    runs = []
    for _ in range(2):
        simulation.reset(5)
        for targets in sway(simulation, 40):
            simulation.set_targets(targets)
            simulation.step()
        runs.append(simulation.data.qpos.copy())
    assert np.array_equal(*runs)


def test_trajectories_on_the_control_grid_move_the_robot_like_single_targets(simulation: Simulation) -> None:
    wanted = sway(simulation, 40)
    for targets in wanted:
        simulation.set_targets(targets)
        simulation.step()
    expected = simulation.data.qpos.copy()

    simulation.reset(3)
    for first in range(0, 40, 8):  # a window of 16 points every 8 periods, replacing the rest of the last one
        window = wanted[first : first + 16]
        for (side, controller), joints in zip(simulation.controllers.items(), (slice(0, 7), slice(7, 14)), strict=True):
            times = [PERIOD_NS * (index + 1) for index in range(len(window))]
            assert side in ('left', 'right')
            controller.replace(
                Trajectory(simulation.time_ns, controller.joint_names, times, window[:, joints]), simulation.time_ns
            )
        for targets in wanted[first : first + 8]:
            simulation.step()
            assert np.array_equal(simulation.targets, targets)
    assert np.array_equal(simulation.data.qpos, expected)


def test_one_arm_may_be_left_out_of_the_profile(profile: RobotProfile) -> None:
    simulation = Simulation(replace(profile, arms=profile.arms[1:]), 'transfer_cube')
    targets = simulation.robot.start_positions
    targets[0] = 0.3
    simulation.set_targets(targets)
    for _ in range(50):
        simulation.step()
    assert simulation.joint_positions == pytest.approx(targets, abs=0.02)
    assert simulation.data.qpos[:6] == pytest.approx([0, -0.96, 1.16, 0, -0.3, 0], abs=0.02)  # the left arm holds


def test_time_runs_on_over_a_reset(simulation: Simulation) -> None:
    simulation.step()
    simulation.reset(9)
    assert (simulation.time_ns, simulation.seed) == (PERIOD_NS, 9)


def test_snapshot_is_a_copy(simulation: Simulation) -> None:
    snapshot = simulation.snapshot()
    before = snapshot.qpos.copy()
    simulation.step()
    assert np.array_equal(snapshot.qpos, before)
    assert not np.array_equal(simulation.data.qpos, before)
    assert simulation.snapshot().time_ns == PERIOD_NS


def test_set_targets_refuses_what_is_no_pose(simulation: Simulation) -> None:
    for targets in (np.zeros(13), np.full(14, np.nan), np.zeros((2, 7))):
        with pytest.raises(SimulationError, match='targets must be 14 finite numbers'):
            simulation.set_targets(targets)


def test_refuses_joints_cameras_and_rates_that_the_model_lacks(profile: RobotProfile) -> None:
    left, right = profile.arms
    knee = replace(left, joints=(replace(left.joints[0], name='left_knee'), *left.joints[1:]))
    tail = Camera('cam_tail', 'tail/image_raw', 'tail/camera_info', 'tail', 240, 160)
    refused = {
        'no joint left_knee; it has left_waist,': replace(profile, arms=(knee, right)),
        'no camera cam_tail; it has .*cam_high': replace(profile, cameras=(*profile.cameras, tail)),
        'control period of 15 ms is not a whole number': replace(profile, clock=LatentClock(15_000_000, 60_000_000)),
    }
    for message, changed in refused.items():
        with pytest.raises(SimulationError, match=message):
            Simulation(changed, 'transfer_cube')
    with pytest.raises(SimulationError, match='choose one of transfer_cube, insertion'):
        Simulation(profile, 'fold_towel')
