"""What happens to an object while a policy is at work, once in an episode, at an instant that its seed draws."""

from typing import Protocol

import numpy as np

from lingbot_va_sim.experts.noise import push
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import UPRIGHT, StartRange

STREAM = 7  # beside an episode's seed, so that its disturbance is drawn apart from its start
NUDGE_M_S = 0.9  # of the object, at once; it slides 4 to 6 cm
NUDGE_M = 0.05
NEARNESS = (0.3, 0.9)  # share of the first distance between gripper and object at which it is nudged
MOVED_M = (0.06, 0.12)
LIFTED = 2  # stage of all tasks from which on the object can be in the hand; a later one may do without a lift
LIFT_M = 0.02  # above where it stood: more than the centre of a tilted cube rises
DRAWS = 1000


class Disturbance(Protocol):
    """Watches a simulation."""

    def step(self, simulation: Simulation) -> bool:
        """Be called after each control period; return whether the disturbance happened just now."""


class Nudge:
    """Hits the object while the gripper is on its way to it.

    It slides about 5 cm, to another place within the range of starts. Nothing happens to one that is touched before.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._nearness = random.uniform(*NEARNESS)
        self._first: float | None = None
        self._over = False

    def step(self, simulation: Simulation) -> bool:
        """Compare the distance with the first one."""
        item = simulation.task.objects[0]
        place = simulation.data.joint(item.joint).qpos[:3].copy()
        distance = min(float(np.linalg.norm(place - gripper)) for gripper in _grippers(simulation))
        self._first = distance if self._first is None else self._first
        self._over = self._over or simulation.reward > 0
        if self._over or distance > self._nearness * self._first:
            return False
        self._over = True
        aim = _elsewhere(item, place, NUDGE_M, NUDGE_M, self._random) - place[:2]
        push(simulation.data, item.joint, NUDGE_M_S * aim / np.linalg.norm(aim))
        return True


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


DISTURBANCES = {'reach': Nudge, 'grasp': Removal}


def draw_disturbance(name: str, seed: int) -> Disturbance:
    """Return the disturbance of the episode with this seed."""
    return DISTURBANCES[name](np.random.default_rng((seed, STREAM)))


def _grippers(simulation: Simulation) -> list[np.ndarray]:
    """Where the first finger of each gripper is, m in the world."""
    model, drives = simulation.robot.model, simulation.robot.description.drives
    joints = [arm.gripper_joint for arm in simulation.profile.arms]
    bodies = [model.joint(drives[joint.name][0].joint).bodyid[0] for joint in joints if joint is not None]
    return [simulation.data.xpos[body] for body in bodies]


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
