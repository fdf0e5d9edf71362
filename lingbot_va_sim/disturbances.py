"""What happens to an object or a tool while a policy is at work: once in an episode, when its seed says."""

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_sim.experts.noise import push
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import UPRIGHT, StartRange

STREAM = 7  # beside an episode's seed, so that its disturbance is drawn apart from its start
NUDGE_M_S = 0.9  # of the object, at once; it slides 4 to 6 cm
NUDGE_M = 0.05
NEARNESS = (0.3, 0.9)  # share of the first distance between gripper and object at which something strikes
SHOVE_N, SHOVE_S = 60.0, 0.4  # a person who runs into the arm and draws back; ALOHA's tool gives way by 1.5 to 3.5 cm
MOVED_M = (0.06, 0.12)
LIFTED = 2  # stage of all tasks from which on the object can be in the hand; a later one may do without a lift
LIFT_M = 0.02  # above where it stood: more than the centre of a tilted cube rises
DRAWS = 1000


class Disturbance(Protocol):
    """Watches a simulation."""

    def step(self, simulation: Simulation) -> bool:
        """Be called after each control period; return whether the disturbance happened just now."""


class _DuringReach(ABC):
    """Strikes while a gripper is on its way to the object, at a distance that is drawn.

    Nothing happens where the object is touched before.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._nearness = random.uniform(*NEARNESS)
        self._first: float | None = None
        self._over = False

    def step(self, simulation: Simulation) -> bool:
        """Compare the distance with the first one."""
        place = simulation.data.joint(simulation.task.objects[0].joint).qpos[:3].copy()
        distances = [float(np.linalg.norm(place - simulation.data.xpos[finger])) for finger in _fingers(simulation)]
        distance = min(distances)
        self._first = distance if self._first is None else self._first
        self._over = self._over or simulation.reward > 0
        if self._over or distance > self._nearness * self._first:
            return False
        self._over = True
        self._strike(simulation, place, _fingers(simulation)[distances.index(distance)])
        return True

    @abstractmethod
    def _strike(self, simulation: Simulation, place: np.ndarray, finger: int) -> None:
        """Disturb; `place` [3] is that of the object, `finger` a body of the gripper that is nearest to it."""


class Nudge(_DuringReach):
    """Hits the object: it slides about 5 cm, to another place within the range of starts."""

    def _strike(self, simulation: Simulation, place: np.ndarray, finger: int) -> None:
        item = simulation.task.objects[0]
        aim = _elsewhere(item, place, NUDGE_M, NUDGE_M, self._random) - place[:2]
        push(simulation.data, item.joint, NUDGE_M_S * aim / np.linalg.norm(aim))


class Shove(_DuringReach):
    """Pushes the tool aside for a while, horizontally: a force on the hand that is nearest to the object."""

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__(random)
        self._hand, self._left = 0, 0

    def step(self, simulation: Simulation) -> bool:
        """Let go in time, and compare the distance with the first one; a reset of the simulation lets go, too."""
        if self._left:
            self._left -= 1
            if not self._left:
                simulation.data.xfrc_applied[self._hand] = 0.0
        return super().step(simulation)

    def _strike(self, simulation: Simulation, place: np.ndarray, finger: int) -> None:
        angle = self._random.uniform(-np.pi, np.pi)
        self._hand = int(simulation.robot.model.body_parentid[finger])
        self._left = round(SHOVE_S * NANOSECONDS / simulation.profile.clock.action_ns)
        simulation.data.xfrc_applied[self._hand, :2] = SHOVE_N * np.array([np.cos(angle), np.sin(angle)])


class Removal:
    """Takes the object out of the gripper when it has just been lifted, and puts it down 6 to 12 cm away.

    So the grasp has missed, although the gripper is closed, and the policy has to see that.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._rest: np.ndarray | None = None
        self._over = False

    def step(self, simulation: Simulation) -> bool:
        """Wait for the lift."""
        item = simulation.task.objects[0]
        joint = simulation.data.joint(item.joint)
        self._rest = joint.qpos[:3].copy() if self._rest is None else self._rest
        if self._over or simulation.reward < LIFTED or joint.qpos[2] < self._rest[2] + LIFT_M:
            return False
        self._over = True
        joint.qpos[:2] = _elsewhere(item, joint.qpos[:3], *MOVED_M, self._random)
        joint.qpos[2], joint.qpos[3:] = self._rest[2], UPRIGHT
        joint.qvel[:] = 0.0
        return True


DISTURBANCES = {'reach': Nudge, 'grasp': Removal, 'tool': Shove}


def draw_disturbance(name: str, seed: int) -> Disturbance:
    """Return the disturbance of the episode with this seed."""
    return DISTURBANCES[name](np.random.default_rng((seed, STREAM)))


def _fingers(simulation: Simulation) -> list[int]:
    """Return the body of the first finger of each gripper; its parent is the hand."""
    model, drives = simulation.robot.model, simulation.robot.description.drives
    joints = [arm.gripper_joint for arm in simulation.profile.arms]
    return [int(model.joint(drives[joint.name][0].joint).bodyid[0]) for joint in joints if joint is not None]


def _elsewhere(
    item: StartRange, place: np.ndarray, nearest: float, farthest: float, random: np.random.Generator
) -> np.ndarray:
    """Draw a place x, y so far away, within the range of starts if that is to be had; else towards its middle."""
    low, high = np.array(item.low[:2]), np.array(item.high[:2])
    for _ in range(DRAWS):
        angle, distance = random.uniform(-np.pi, np.pi), random.uniform(nearest, farthest)
        there = place[:2] + distance * np.array([np.cos(angle), np.sin(angle)])
        if (there >= low).all() and (there <= high).all():
            return there
    inward = (low + high) / 2 - place[:2]
    return place[:2] + nearest * inward / max(np.linalg.norm(inward), 1e-9)
