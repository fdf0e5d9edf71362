"""Which topics of a bag have a robot's cameras, joints and commands, and what their messages say."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lingbot_va_core.robot import Arm, RobotProfile
from lingbot_va_ros.bag import Bag, BagReadError, instant, nanoseconds

IMAGE, COMPRESSED, JOINT_STATE = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/JointState',
)
COMMANDS = {
    'joint_trajectory': 'trajectory_msgs/msg/JointTrajectory',
    'joint_group': 'std_msgs/msg/Float64MultiArray',
    'joint_state': JOINT_STATE,
}


@dataclass(frozen=True)
class BagTopics:
    """The topics that a conversion reads.

    Attributes:
        cameras: of the profile's cameras, in their order.
        joint_states: of the measured joints.
        commands: type of output and, in the order of a `joint_group`, the indices of the joints, by topic.
        reported: whether our own graph was running, which reports its motion.
    """

    cameras: tuple[str, ...]
    joint_states: str
    commands: dict[str, tuple[str, tuple[int, ...]]]
    reported: bool

    def commanded(self, profile: RobotProfile) -> np.ndarray | None:
        """Return which joints must be commanded, bool [joints]; None where the motion is reported."""
        if self.reported:
            return None
        commanded = np.zeros(len(profile.joints), dtype=bool)
        for _, columns in self.commands.values():
            commanded[list(columns)] = True
        return commanded


def find_topics(bag: Bag, profile: RobotProfile) -> BagTopics:
    """Find the topics in a bag.

    Raises:
        BagReadError: one is missing, or has messages of another type; the message names it.
    """
    cameras = []
    for camera in profile.cameras:
        found = bag.image_topic(camera)
        if found is None:
            raw = bag.resolve(camera.image_topic)
            raise BagReadError(f'{bag.path} has no image of {camera.name}: neither {raw} nor {raw}/compressed has one')
        _require(bag, found, IMAGE if found == camera.image_topic else COMPRESSED)
        cameras.append(found)
    if not bag.has(profile.joint_states_topic):
        raise BagReadError(f'{bag.path} has no message on {bag.resolve(profile.joint_states_topic)}')
    _require(bag, profile.joint_states_topic, JOINT_STATE)
    reported = bag.has('executed_actions') and bag.has('episode')
    commands = {} if reported else _commands(bag, profile)
    return BagTopics(tuple(cameras), profile.joint_states_topic, commands, reported)


def _commands(bag: Bag, profile: RobotProfile) -> dict[str, tuple[str, tuple[int, ...]]]:
    sinks: dict[str, tuple[str, tuple[int, ...]]] = {}
    first = 0
    for arm in profile.arms:
        for topic, kind, columns in _sinks(arm, first):
            if not bag.has(topic):
                raise BagReadError(
                    f'{bag.path} has no command of the {arm.side} arm: no message on {bag.resolve(topic)}; what was '
                    'done is unknown without'
                )
            _require(bag, topic, COMMANDS[kind])
            sinks[topic] = (kind, (*sinks.get(topic, (kind, ()))[1], *columns))
        first += len(arm.joints)
    if not sinks:
        raise BagReadError(f'{bag.path}: {profile.name} has no topic on which its joints are commanded')
    return sinks


def _sinks(arm: Arm, first: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return topic, type and joints of the outputs of an arm, whose first joint has the index `first`."""
    index = {joint.name: first + i for i, joint in enumerate(arm.joints)}
    sinks = []
    if arm.output is not None and arm.output_joints:
        sinks.append((arm.output.topic, arm.output.type, tuple(index[joint.name] for joint in arm.output_joints)))
    if arm.gripper is not None and arm.gripper.topic and arm.gripper_joint is not None:
        sinks.append((arm.gripper.topic, arm.gripper.type, (index[arm.gripper_joint.name],)))
    return sinks


def _require(bag: Bag, topic: str, kind: str) -> None:
    found = bag.topics[bag.resolve(topic)].kind
    if found != kind:
        raise BagReadError(f'{bag.path}: {bag.resolve(topic)} has messages of the type {found}; {kind} is expected')


def header_ns(bag: Bag, topic: str, log_ns: int, message: Any) -> int:
    """Return a message's header stamp; raises BagReadError where it has none."""
    stamp = nanoseconds(message.header.stamp)
    if not stamp:
        raise BagReadError(
            f'{bag.path}: the message on {bag.resolve(topic)} that was received at {instant(log_ns)} has no stamp; let '
            'its driver stamp what it sends'
        )
    return stamp


class JointNames:
    """Finds a robot's joints in messages that name theirs."""

    def __init__(self, profile: RobotProfile) -> None:
        self._index = {joint.name: i for i, joint in enumerate(profile.joints)}
        self._known: dict[tuple[str, ...], tuple[list[int], tuple[int, ...]]] = {}

    def columns(self, names: list[str]) -> tuple[list[int], tuple[int, ...]]:
        """Return which entries of a message are ours, and their indices in a joint vector."""
        key = tuple(names)
        if key not in self._known:
            pairs = [(i, self._index[name]) for i, name in enumerate(names) if name in self._index]
            self._known[key] = [i for i, _ in pairs], tuple(joint for _, joint in pairs)
        return self._known[key]

    def positions(self, message: Any) -> tuple[tuple[int, ...], np.ndarray] | None:
        """Return joints and positions of a JointState; None where it has none of ours or contradicts itself."""
        theirs, ours = self.columns(message.name)
        if not ours or len(message.position) != len(message.name):
            return None
        positions = np.asarray(message.position, dtype=np.float64)[theirs]
        return (ours, positions) if np.isfinite(positions).all() else None


def command_points(
    names: JointNames, kind: str, columns: tuple[int, ...], message: Any
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray] | None:
    """Unpack a command: joints, times after its start (int64 ns [n]), positions [n, joints]; None for an empty one.

    Raises:
        ValueError: it contradicts itself.
    """
    at_once = np.zeros(1, dtype=np.int64)
    if kind == 'joint_group':
        positions = np.asarray(message.data, dtype=np.float64)
        if len(positions) != len(columns):
            raise ValueError(f'it has {len(positions)} values for {len(columns)} joints')
        times, rows = at_once, positions[None]
    elif kind == 'joint_state':
        found = names.positions(message)
        if found is None:
            return None
        columns, positions = found
        times, rows = at_once, positions[None]
    else:
        theirs, columns = names.columns(message.joint_names)
        if not columns or not message.points:
            return None
        if any(len(point.positions) != len(message.joint_names) for point in message.points):
            raise ValueError('a point has not one position for each joint')
        times = np.array([nanoseconds(point.time_from_start) for point in message.points], dtype=np.int64)
        rows = np.array([point.positions for point in message.points], dtype=np.float64)[:, theirs]
        if (np.diff(times) <= 0).any() or times[0] < 0:
            raise ValueError('the times of its points do not increase')
    if not np.isfinite(rows).all():
        raise ValueError('a position is not finite')
    return columns, times, rows
