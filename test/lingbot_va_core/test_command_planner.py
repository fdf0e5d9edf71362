"""From chunks to commands for every robot: joints, tools, workspaces, and what must not be followed."""

from dataclasses import replace

import numpy as np
import pytest
from poseable_robot import aloha

from lingbot_va_core.command_planner import HOLD, WINDOW_POINTS, Command, CommandPlanner, PlannerError
from lingbot_va_core.kinematics import Kinematics
from lingbot_va_core.limits import ACCELERATION, WORKSPACE
from lingbot_va_core.robot import RobotProfile, Workspace, load_profile, robot_names
from lingbot_va_sim.trajectory_controller import Trajectory, TrajectoryController

POINTS = 16
SECOND = 1_000_000_000


class Drive:
    """A planner with a clock."""

    def __init__(self, profile: RobotProfile) -> None:
        self.profile, self.planner = profile, CommandPlanner(profile, POINTS)
        self.now = 1_000 * SECOND
        self.planner.arm(profile.limits('home'))
        self.step()

    def step(self, speed: float = 1.0, jitter_ns: int = 0) -> Command:
        self.now += self.profile.clock.action_ns
        return self.planner.step(self.now + jitter_ns, speed)

    def send(self, actions: np.ndarray, number: int = 0) -> None:
        index = 1 + number * len(actions) // 16
        self.planner.splice(index, self.now, self.profile.clock.action_ns, actions, number)

    def trajectory(self) -> Trajectory:
        """The window as it is sent."""
        window, dt = self.planner.window, self.profile.clock.action_ns
        due = [(k + 1) * dt for k in range(len(window.positions))]
        names = [joint.name for joint in self.profile.joints]
        return Trajectory(None, names, due, window.positions.tolist(), window.velocities.tolist())


def swing(profile: RobotProfile, joints: slice, size: float, rows: int = 32) -> np.ndarray:
    """Joint vectors [rows, joints] of a smooth motion from home."""
    path = np.tile(profile.limits('home'), (rows, 1))
    path[:, joints] += size * (1 - np.cos(np.linspace(0, np.pi, rows + 1)[1:, None])) / 2
    return path


@pytest.mark.parametrize('periods', [1.6, 2, 3, 5.4, 8, 15, 40])
@pytest.mark.parametrize('speed', [0.5, 1.0])
def test_after_a_late_step_an_arm_that_follows_its_window_goes_on_from_where_that_brought_it(
    periods: float, speed: float
) -> None:
    profile = load_profile('aloha')
    drive = Drive(profile)
    dt, now = profile.clock.action_ns, drive.now
    controller = TrajectoryController([joint.name for joint in profile.joints], profile.limits('home'))
    drive.send(swing(profile, slice(0, 1), 0.9))
    path = []
    for step in range(90):
        controller.replace(drive.trajectory(), drive.now)
        until = drive.now + (round(periods * dt) if step == 18 else dt)
        while now < until:
            now += dt // 10
            path.append(controller.sample(now)[0].copy())
        drive.now = until - dt
        drive.step(speed)
    speeds = np.diff(path, axis=0) / (dt / 10 / SECOND)
    assert speeds[:, 0].min() > -0.05, 'it does not go back'
    assert (np.abs(speeds) <= profile.limits('velocity') * 1.05).all()
    np.testing.assert_allclose(path[-1], profile.limits('home') + 0.9 * (np.arange(14) == 0), atol=2e-3)


def test_an_arm_that_takes_single_samples_stood_still_meanwhile() -> None:
    profile = load_profile('isaac')
    drive = Drive(profile)
    drive.send(swing(profile, slice(0, 1), 0.4))
    for _ in range(16):
        drive.step()
    before = drive.planner.window.positions[0].copy()
    drive.now += 5 * profile.clock.action_ns
    drive.step()
    assert 0 < drive.planner.window.positions[0, 0] - before[0] < 2.5 * profile.clock.action_ns / SECOND * 2.0


def test_a_clock_that_is_set_ahead_is_no_late_step() -> None:
    profile = load_profile('aloha')
    drive = Drive(profile)
    drive.send(swing(profile, slice(0, 1), 0.9))
    for _ in range(16):
        drive.step()
    before = drive.planner.window.positions[:2, 0].copy()
    dt = profile.clock.action_ns
    drive.planner.step(drive.now + 300 * dt, 1.0, elapsed_ns=dt)
    assert drive.planner.window.positions[0, 0] == pytest.approx(before[1], abs=0.03)


@pytest.mark.parametrize('name', robot_names())
def test_every_robot_holds_where_it_is_measured(name: str) -> None:
    drive = Drive(load_profile(name))
    command = drive.step()
    assert command.index == HOLD
    assert drive.planner.at_rest
    home = np.tile(drive.profile.limits('home'), (POINTS, 1))
    np.testing.assert_allclose(drive.planner.window.positions, home, atol=1e-9)
    np.testing.assert_array_equal(drive.planner.window.velocities, 0)


def test_a_chunk_of_poses_moves_the_joints_and_reports_poses() -> None:
    profile = aloha(in_action=True, joints_in_action=False)
    drive = Drive(profile)
    kinematics = Kinematics.from_profile(profile)
    joints = swing(profile, slice(0, 3), 0.15)
    actions = np.zeros((len(joints), len(profile.channels)))
    for first, side in ((0, 'left'), (8, 'right')):
        actions[:, first : first + 7] = [kinematics.arms[side].pose(row[kinematics.indices[side]]) for row in joints]
    actions[:, [7, 15]] = joints[:, [6, 13]]
    drive.send(actions)
    frames = []
    for _ in range(45):
        command = drive.step()
        frames += command.frames
        assert command.gross == ''
    assert [frame.latent_index for frame in frames] == [1, 2]
    np.testing.assert_allclose(command.action[:3], actions[-1, :3], atol=2e-3)
    np.testing.assert_allclose(frames[1].actions[-1][:3], actions[-1, :3], atol=5e-3)
    np.testing.assert_allclose(drive.planner.window.positions[0][:3], joints[-1, :3], atol=0.02)


def test_tools_are_published_where_the_joints_bring_them() -> None:
    profile = load_profile('aloha')
    drive = Drive(profile)
    drive.send(swing(profile, slice(0, 3), 0.3))
    kinematics = Kinematics.from_profile(profile)
    for _ in range(20):
        drive.step()
    window = drive.planner.window
    for number, side in enumerate(('left', 'right')):
        poses = window.tools.poses(number, window.positions)
        assert (np.sum(poses[1:, 3:] * poses[:-1, 3:], axis=-1) > 0).all()
        for k in (0, POINTS - 1):
            expected = kinematics.arms[side].pose(window.positions[k][kinematics.indices[side]])
            np.testing.assert_allclose(poses[k, :3], expected[:3], atol=1e-9)
            assert abs(poses[k, 3:] @ expected[3:]) == pytest.approx(1)


def test_the_wall_of_a_workspace_is_named_as_what_changed_the_command() -> None:
    plain = aloha()
    kinematics = Kinematics.from_profile(plain)
    home = kinematics.arms['left'].pose(plain.limits('home')[kinematics.indices['left']])[:3]
    profile = aloha(box=Workspace(tuple(home - 1.0), tuple(home + np.array([1.0, 0.05, 1.0]))))
    drive = Drive(profile)
    drive.send(swing(profile, slice(0, 1), 0.9, rows=48))
    limits, channels = 0, np.zeros(30, dtype=bool)
    for _ in range(60):
        command = drive.step()
        limits |= command.limits
        channels |= command.limited_channels
        tool = kinematics.arms['left'].pose(drive.planner.window.positions[0][:6])
        assert tool[1] <= home[1] + 0.05
    assert limits & WORKSPACE
    assert channels[14]
    assert not channels[21:].any(), 'the right arm was free'


def test_a_step_is_smoothed_and_the_limits_that_did_it_are_named() -> None:
    profile = load_profile('aloha')
    drive = Drive(profile)
    target = profile.limits('home').copy()
    target[0] += 0.5
    drive.send(np.tile(target, (16, 1)))
    command = drive.step()
    assert command.limits & ACCELERATION
    assert np.flatnonzero(command.limited_channels).tolist() == [14]


def test_a_gross_target_is_not_followed_and_explained() -> None:
    profile = load_profile('aloha')
    drive = Drive(profile)
    target = profile.limits('home').copy()
    target[3] = 1e4
    drive.send(np.tile(target, (16, 1)))
    command = drive.step()
    assert 'left_forearm_roll was to go from 0 to ' in command.gross
    assert command.index == HOLD
    np.testing.assert_array_equal(drive.planner.window.positions[0], profile.limits('home'))


def test_the_jitter_of_the_timer_does_not_shake_the_motion() -> None:
    profile = load_profile('aloha')
    numbers, drive = np.random.default_rng(0), Drive(profile)
    rows = np.tile(profile.limits('home'), (96, 1))
    rows[:, 0] += 0.4 * 0.02 * np.arange(1, 97)
    drive.send(rows)
    path = []
    for _ in range(80):
        drive.step(jitter_ns=int(numbers.integers(-8_000_000, 8_000_000)))
        path.append(drive.planner.window.positions[0][0])
    speeds = np.diff(path)[10:] / 0.02
    assert np.abs(speeds - 0.4).max() < 0.02


def test_an_arm_whose_tool_cannot_be_located_is_refused() -> None:
    profile = aloha(in_action=True)
    left, right = profile.arms
    profile = replace(profile, arms=(replace(left, joints=(left.gripper_joint,)), right))
    with pytest.raises(PlannerError, match='left arm of aloha is commanded by a pose, but none of its joints'):
        CommandPlanner(profile, POINTS)


def test_a_robot_that_brakes_slowly_gets_a_longer_window_and_a_shorter_one_is_refused() -> None:
    assert len(CommandPlanner(load_profile('aloha')).window.positions) == WINDOW_POINTS
    profile = load_profile('aloha')
    arms = [replace(arm, joints=tuple(replace(j, acceleration=2.0) for j in arm.joints)) for arm in profile.arms]
    slow = replace(profile, arms=tuple(arms))
    assert len(CommandPlanner(slow).window.positions) == 80  # a stop from 3.14 rad/s takes 79 of 20 ms
    with pytest.raises(PlannerError, match='window_points is 79, but a stop from full speed takes 79 control periods'):
        CommandPlanner(slow, 79)
