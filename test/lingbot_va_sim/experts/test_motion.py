"""Pieces of motion begin where the last one ended, keep the limits of the joints, and are labelled with the right."""

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.experts.aloha import CLOSED, OPEN, aloha_arms
from lingbot_va_sim.experts.motion import ArmMotion, Pace, ToolPose
from lingbot_va_sim.experts.noise import OrnsteinUhlenbeck
from lingbot_va_sim.simulation import Simulation

DT = 0.02
PICK = ToolPose((0.1, 0.45, 0.1), yaw=3.27, pitch=1.0)


@pytest.fixture(scope='module')
def simulation() -> Simulation:
    return Simulation(load_profile('aloha'), 'transfer_cube')


@pytest.fixture
def right(simulation: Simulation) -> ArmMotion:
    return aloha_arms(simulation, simulation.robot.start_positions, Pace())['right']


def rows(arm: ArmMotion) -> tuple[np.ndarray, np.ndarray]:
    """Play to the end; return targets and labels, the first target before the motion included."""
    targets, labels = [arm.step()[0]] if not arm.busy else [], []
    while arm.busy:
        target, label = arm.step()
        targets.append(target)
        labels.append(label)
    return np.array(targets), np.array(labels)


def test_the_tool_arrives_by_either_way(right):
    for go in (right.to, right.line):
        pose = PICK.moved(z=0.0 if go == right.to else -0.06)
        go(pose)
        rows(right)
        assert np.allclose(right.pose().position, pose.position, atol=2e-4)
        assert np.allclose(right.pose().rotation, pose.rotation, atol=2e-3)


def test_a_line_is_straight(right):
    right.to(PICK)
    rows(right)
    start = np.array(right.pose().position)
    right.line(PICK.moved(x=0.05, z=-0.08))
    way = np.array([0.05, 0, -0.08])
    while right.busy:
        right.step()
        passed = np.array(right.pose().position) - start
        assert np.linalg.norm(passed - way * (passed @ way) / (way @ way)) < 1e-3


def test_motion_is_continuous_starts_and_ends_at_rest_and_keeps_the_limits(simulation, right):
    start = right.step()[0]
    right.to(PICK, OPEN, via=np.array([0.1, 0.1, -0.1, 0, 0.1, 0]))
    right.line(PICK.moved(z=-0.08))
    right.grip(CLOSED, 0.1)
    targets = np.concatenate([[start], rows(right)[0]])
    velocity = np.diff(targets, axis=0) / DT
    acceleration = np.diff(velocity, axis=0, prepend=0 * velocity[:1], append=0 * velocity[:1]) / DT
    limits = [simulation.profile.limits(field)[7:] for field in ('velocity', 'acceleration')]
    assert (np.abs(velocity).max(0) < 0.9 * limits[0]).all()
    assert (np.abs(acceleration).max(0) < limits[1]).all()


def test_a_mistake_moves_wrong_and_is_labelled_right(right):
    right.to(PICK)
    goal, wrong = PICK.moved(z=-0.08), PICK.moved(z=-0.03)
    right.mistake(lambda arm: arm.line(wrong), lambda arm: arm.line(goal))
    targets, labels = rows(right)
    assert np.allclose(right.pose().position, wrong.position, atol=2e-4)
    differs = (targets != labels).any(axis=1)
    assert differs[-1] and not differs[: len(differs) // 2].any()
    right.line(goal)
    targets, labels = rows(right)
    assert np.array_equal(targets, labels)
    assert np.allclose(right.pose().position, goal.position, atol=2e-4)


def test_a_stopped_arm_stays_where_it_is_and_goes_on_from_there(right):
    right.to(PICK)
    for _ in range(10):
        before = right.step()[0]
    right.stop()
    assert not right.busy and np.array_equal(right.step()[0], before)
    right.grip(OPEN)
    assert np.abs(rows(right)[0][0] - before).max() < 1e-3


def test_noise_is_smooth_and_has_the_deviation_that_was_asked_for():
    noise = OrnsteinUhlenbeck(np.full(2000, 0.01), 0.3, DT, np.random.default_rng(0))
    values = np.array([noise.step() for _ in range(200)])
    assert np.isclose(values[150:].std(), 0.01, rtol=0.05)
    assert np.abs(values[0]).max() < 0.005
    acceleration = np.diff(values, n=2, axis=0) / DT**2
    assert np.abs(acceleration).std() < 5  # rad/s^2, of 20 that the joints allow
