"""The hand-over can be done: a script that knows where the cube lies goes through all stages to success."""

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.kinematics import ArmKinematics, UnreachableError
from lingbot_va_sim.simulation import Simulation

FORWARD = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # a hand whose fingers point along x
MEETING = np.array([0.46, -0.02, 1.16])
UP = np.array([0.0, 0.0, 1.0])
OPEN, CLOSED = 0.7, 0.0


def turned(axis: int, degrees: float) -> np.ndarray:
    """Return the rotation matrix about a coordinate axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rest = [i for i in range(3) if i != axis]
    sign = -1.0 if axis == 1 else 1.0
    matrix = np.eye(3)
    matrix[np.ix_(rest, rest)] = [[c, -sign * s], [sign * s, c]]
    return matrix


class Hand:
    """One arm, moved to poses of its fingertips."""

    def __init__(self, simulation: Simulation, side: str) -> None:
        self._simulation = simulation
        first = 0 if side == 'left' else 8
        self._joints, self._finger = slice(first, first + 7), first + 7
        self._sign = 1.0 if side == 'left' else -1.0
        joints = [f'openarm_{side}_joint{i}' for i in range(1, 8)]
        model = simulation.robot.model
        self._kinematics = ArmKinematics(model, joints, f'openarm_{side}_ee_base_link', (0.0, 0.0, -0.15))

    def go(self, position: np.ndarray, rotation: np.ndarray, periods: int = 60) -> None:
        """Move the fingertips to a pose."""
        now = self._simulation.targets[self._joints]
        random = np.random.default_rng(0)
        for seed in (now, *(now + 0.5 * random.standard_normal((30, 7)))):
            seed = np.clip(seed, self._kinematics.lower, self._kinematics.upper)
            try:
                return self._move(self._joints, self._kinematics.solve(position, rotation, seed), periods)
            except UnreachableError:
                continue
        raise UnreachableError(f'{position}')

    def grip(self, opening: float) -> None:
        """Open or close the fingers."""
        self._move(self._finger, self._sign * opening, 25)

    def _move(self, which: slice | int, end: np.ndarray | float, periods: int) -> None:
        targets = self._simulation.targets
        start = np.copy(targets[which])
        for share in np.linspace(0, 1, periods):
            targets[which] = start + (end - start) * share**2 * (3 - 2 * share)
            self._simulation.set_targets(targets)
            self._simulation.step()
        for _ in range(15):
            self._simulation.step()


@pytest.mark.parametrize('seed', [0, 2])
def test_a_script_hands_the_cube_over(seed: int) -> None:
    simulation = Simulation(load_profile('openarm'), 'hand_over', seed)
    right, left = Hand(simulation, 'right'), Hand(simulation, 'left')
    cube, down = simulation.data.joint('red_cube_joint').qpos[:3].copy(), turned(1, 30) @ FORWARD
    stages = [simulation.reward]
    right.go(cube + 0.015 * UP + 0.1 * down[:, 2], down)
    right.grip(OPEN)
    right.go(cube + 0.012 * UP, down)
    right.grip(CLOSED)
    stages.append(simulation.reward)
    right.go(cube + 0.15 * UP, down)
    right.go(MEETING, turned(2, 30) @ FORWARD, 80)
    stages.append(simulation.reward)
    towards = turned(2, -30) @ FORWARD @ turned(2, 90)  # fingers above and below the cube
    left.go(MEETING + 0.12 * towards[:, 2], towards, 80)
    left.grip(OPEN)
    left.go(MEETING + 0.005 * towards[:, 2], towards)
    left.grip(CLOSED)
    stages.append(simulation.reward)
    assert not simulation.succeeded
    right.grip(OPEN)
    left.go(MEETING + 0.15 * towards[:, 2], towards)
    stages.append(simulation.reward)
    assert stages == [0, 1, 2, 3, 4]
    assert simulation.success and simulation.succeeded
