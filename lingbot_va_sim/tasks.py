"""Tasks: where objects start, and the stages that are rewarded. Those of ALOHA are as published with ACT."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from lingbot_va_core.robot import RobotProfile
from lingbot_va_sim.aloha import ALOHA
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.openarm import OPENARM
from lingbot_va_sim.simulated_robot import RobotDescription

MAX_REWARD = 4
LEFT_FINGER = 'vx300s_left/10_left_gripper_finger'
RIGHT_FINGER = 'vx300s_right/10_right_gripper_finger'
TABLE = 'table'
CUBE_M = 0.05
CUBE_ON_TABLE_M = 1.005 + CUBE_M / 2  # height of its centre on the table of the cell
UPRIGHT = (1.0, 0.0, 0.0, 0.0)  # quaternion w x y z, MuJoCo's order


class Contacts:
    """Which named geoms touch each other at one instant."""

    def __init__(self, geom_names: Sequence[str], pairs: Collection[tuple[int, int]]) -> None:
        """Name the geoms of the contact `pairs`."""
        self._pairs = {frozenset((geom_names[a], geom_names[b])) for a, b in pairs}

    def touch(self, first: str | Sequence[str], second: str) -> bool:
        """Say whether `first`, or one of them, touches `second`."""
        firsts = (first,) if isinstance(first, str) else first
        return any(frozenset((name, second)) in self._pairs for name in firsts)


@dataclass(frozen=True)
class StartRange:
    """A free object and the box from which its start is drawn; world frame, m, never turned."""

    joint: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]


class Task(Protocol):
    """What a simulation needs to know of a task."""

    name: str
    robot: RobotDescription
    scene: str
    instruction: str
    objects: tuple[StartRange, ...]

    def furnish(self, spec: mujoco.MjSpec) -> None:
        """Put the objects that the scene does not have into it."""

    def reward(self, contacts: Contacts) -> int:
        """Return the stage that has been reached, 0 to MAX_REWARD, which is success."""

    def held(self, contacts: Contacts) -> bool:
        """Whether success can last: no hand that should have let go is still in touch; asked at success only."""


class _SceneTask:
    """A task whose scene has all its objects."""

    def furnish(self, spec: mujoco.MjSpec) -> None:
        """Add nothing."""

    def held(self, contacts: Contacts) -> bool:
        """Nothing has to be let go."""
        return True


class TransferCube(_SceneTask):
    """The right arm picks the cube and hands it to the left arm."""

    name = 'transfer_cube'
    robot = ALOHA
    scene = 'bimanual_viperx_transfer_cube.xml'
    instruction = 'Pick up the red cube with the right arm and hand it over to the left arm.'
    objects = (StartRange('red_box_joint', (0.0, 0.4, 0.05), (0.2, 0.6, 0.05)),)

    def reward(self, contacts: Contacts) -> int:
        """Return 1: the right gripper touches the cube; 2: lifted; 3: the left one touches it; 4: handed over."""
        lifted = not contacts.touch('red_box', TABLE)
        if contacts.touch('red_box', LEFT_FINGER):
            return 4 if lifted else 3
        if contacts.touch('red_box', RIGHT_FINGER):
            return 2 if lifted else 1
        return 0

    def held(self, contacts: Contacts) -> bool:
        """The left arm has the cube alone, which the published stages do not ask for."""
        return not contacts.touch((RIGHT_FINGER, 'vx300s_right/10_left_gripper_finger'), 'red_box')


class Insertion(_SceneTask):
    """The right arm takes the peg, the left arm the socket, and they insert one into the other in the air."""

    name = 'insertion'
    robot = ALOHA
    scene = 'bimanual_viperx_insertion.xml'
    instruction = 'Pick up the red peg and the blue socket and insert the peg into the socket.'
    objects = (
        StartRange('red_peg_joint', (0.1, 0.4, 0.05), (0.2, 0.6, 0.05)),
        StartRange('blue_socket_joint', (-0.2, 0.4, 0.05), (-0.1, 0.6, 0.05)),
    )
    _socket = ('socket-1', 'socket-2', 'socket-3', 'socket-4')

    def reward(self, contacts: Contacts) -> int:
        """Return 1: both grippers touch; 2: both lifted; 3: peg touches socket; 4: peg touches the pin inside."""
        lifted = not contacts.touch('red_peg', TABLE) and not contacts.touch(self._socket, TABLE)
        if contacts.touch('red_peg', 'pin'):
            return 4
        if lifted and contacts.touch(self._socket, 'red_peg'):
            return 3
        if contacts.touch('red_peg', RIGHT_FINGER) and contacts.touch(self._socket, LEFT_FINGER):
            return 2 if lifted else 1
        return 0


class HandOver:
    """The right OpenArm picks the cube and hands it to the left one, which ends up holding it alone."""

    name = 'hand_over'
    robot = OPENARM
    scene = 'cell/cell.xml'
    instruction = 'Pick up the red cube with the right arm and hand it over to the left arm.'
    objects = (StartRange('red_cube_joint', (0.4, -0.25, CUBE_ON_TABLE_M), (0.5, -0.12, CUBE_ON_TABLE_M)),)
    _left, _right = (
        {finger: [f'finger_{finger}_{side}_collision_0{part}' for part in range(4)] for finger in ('inner', 'outer')}
        for side in ('left', 'right')
    )

    def furnish(self, spec: mujoco.MjSpec) -> None:
        """Add the cube."""
        cube = spec.worldbody.add_body(name='red_cube', pos=(0.45, -0.185, CUBE_ON_TABLE_M))
        cube.add_freejoint(name='red_cube_joint')
        half = CUBE_M / 2
        cube.add_geom(
            name='red_cube', type=mujoco.mjtGeom.mjGEOM_BOX, size=(half, half, half), rgba=(0.9, 0.1, 0.1, 1.0),
            mass=0.06, condim=4, friction=(1.0, 0.01, 0.001),
        )  # fmt: skip

    def reward(self, contacts: Contacts) -> int:
        """Return 1: a right finger touches the cube; 2: lifted; 3: a left one touches, too; 4: the left hand holds it.

        Holding means: between both fingers, free of the table and of the right hand.
        """
        right, left = ([contacts.touch(hand[f], 'red_cube') for f in hand] for hand in (self._right, self._left))
        lifted = not contacts.touch('red_cube', 'cell_table_col')
        if lifted and all(left) and not any(right):
            return 4
        if any(right):
            return 3 if lifted and any(left) else 2 if lifted else 1
        return 0

    def held(self, contacts: Contacts) -> bool:
        """Success says so already."""
        return True


TASKS: dict[str, Task] = {task.name: task for task in (TransferCube(), Insertion(), HandOver())}


def find_task(name: str) -> Task:
    """Return a task by its name, or raise SimulationError with the names there are."""
    if name not in TASKS:
        raise SimulationError(f"task '{name}' is unknown; choose one of {', '.join(TASKS)}")
    return TASKS[name]


def default_task(profile: RobotProfile) -> Task:
    """Return the first task of the robot that has the joints of the profile, or raise SimulationError."""
    for task in TASKS.values():
        if task.robot.fits(profile):
            return task
    robots = dict.fromkeys(task.robot.title for task in TASKS.values())
    raise SimulationError(
        f'no simulated robot has the joints of {profile.name}; there are {" and ".join(robots)}: choose one of '
        'their profiles, or --no-sim for the robot itself'
    )


def place_objects(task: Task, model: mujoco.MjModel, data: mujoco.MjData, seed: int) -> None:
    """Draw the start of every object, as gym-aloha does for the same seed."""
    if not 0 <= seed < 2**32:
        raise SimulationError(f'seed is {seed}; it must be from 0 to {2**32 - 1}')
    random = np.random.RandomState(seed)  # the legacy generator, to get gym-aloha's own starts
    for item in task.objects:
        address = model.joint(item.joint).qposadr[0]
        data.qpos[address : address + 7] = (*random.uniform(item.low, item.high), *UPRIGHT)
