"""What a robot profile says, once it has been read and found consistent."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from lingbot_va_core.clock import LatentClock
from lingbot_va_core.resources import find_resource

ACTION_DIM = 30
CHANNELS = {'left': (*range(14, 21), 28), 'right': (*range(21, 28), 29)}  # joints, then the gripper
POSE_CHANNELS = {'left': tuple(range(7)), 'right': tuple(range(7, 14))}  # x y z, quaternion x y z w
GRIPPERS = {'left': 28, 'right': 29}
CAMERA_LAYOUTS = {'width': (1, 8), 'tshape': (3, 3)}  # fewest and most cameras
NO_OFFSET = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class ProfileError(ValueError):
    """A robot profile that cannot be read or contradicts itself.

    Attributes:
        problems: every mistake that was found, one line each, without the file's name.
        arms, kinematics: what of them is right nevertheless, so that it can be compared with the robot's description.
    """

    def __init__(
        self,
        message: str,
        problems: Sequence[str] = (),
        arms: 'Sequence[Arm]' = (),
        kinematics: 'Kinematics | None' = None,
    ) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)
        self.arms, self.kinematics = tuple(arms), kinematics


@dataclass(frozen=True)
class Joint:
    """A commanded joint. Units: rad (m for most grippers), per second, per second squared.

    `channel` is None for a joint that is commanded but no part of the action: inverse kinematics finds it from the pose
    of the arm's end effector. Commands keep `margin` from both position limits.
    """

    name: str
    channel: int | None
    lower: float
    upper: float
    velocity: float
    acceleration: float
    home: float
    margin: float = 0.0


@dataclass(frozen=True)
class Output:
    """Where the joints of an arm are commanded: the type of the controller's input and its topic.

    `joint_trajectory`: trajectory_msgs/JointTrajectory, `joint_group`: std_msgs/Float64MultiArray in the order of
    `Arm.output_joints`, `joint_state`: sensor_msgs/JointState, which arms may share. `stamped` trajectories say when
    they begin; the others begin when they arrive.
    """

    type: str
    topic: str
    stamped: bool = False


@dataclass(frozen=True)
class GripperOutput:
    """Where a gripper is commanded.

    `in_output`: with the joints of its arm. `joint_trajectory`, `joint_group`: on a `topic` of its own.
    `gripper_command` (control_msgs/GripperCommand) and `parallel_gripper_command` (control_msgs/ParallelGripperCommand)
    are goals for `action`, sent when the target has moved by `threshold` (unit of the joint) from the last one sent.
    `max_effort` goes with them (N or Nm); 0 leaves it to the controller.
    """

    type: str
    topic: str | None = None
    action: str | None = None
    threshold: float = 0.0
    max_effort: float = 0.0


@dataclass(frozen=True)
class EndEffector:
    """A tool: where it is in `base_frame`, and what becomes of that pose.

    The tool is `offset` (x y z, quaternion x y z w; m) away from `tool_frame`. Frames are bodies, sites or links of the
    kinematics file, and frames of tf for those who receive poses. With `in_action` the pose has seven channels of the
    action; else it is only published. `pose_topic` (geometry_msgs/PoseStamped) and `trajectory_topic`
    (trajectory_msgs/MultiDOFJointTrajectory) are where it goes.
    """

    tool_frame: str
    base_frame: str
    in_action: bool
    offset: tuple[float, ...] = NO_OFFSET
    pose_topic: str | None = None
    trajectory_topic: str | None = None


@dataclass(frozen=True)
class Workspace:
    """The box that a tool must not leave: corners x y z in its base frame, m."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One arm, its gripper included. It has joints, an end effector in the action, or both.

    Joints of the arm proper have channels either all or not at all; in the latter case inverse kinematics finds them.
    Where both the pose and the joints are part of the action, the joints are what is commanded, and the pose goes to
    the outputs of the end effector.
    """

    side: str
    joints: tuple[Joint, ...]
    output: Output | None = None  # None: the arm is commanded by its pose, and its joints are only measured
    gripper: GripperOutput | None = None  # None: no gripper among the joints
    end_effector: EndEffector | None = None
    workspace: Workspace | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the arm's part of the action: the pose of its end effector, if it is in, then its joints."""
        pose = POSE_CHANNELS[self.side] if self.pose_in_action else ()
        return (*pose, *(joint.channel for joint in self.joints if joint.channel is not None))

    @property
    def pose_in_action(self) -> bool:
        """Whether the pose of the end effector is part of the action."""
        return self.end_effector is not None and self.end_effector.in_action

    @property
    def gripper_joint(self) -> Joint | None:
        """The joint on the gripper's channel."""
        return next((joint for joint in self.joints if joint.channel == GRIPPERS[self.side]), None)

    @property
    def arm_joints(self) -> tuple[Joint, ...]:
        """The joints without the gripper."""
        return tuple(joint for joint in self.joints if joint.channel != GRIPPERS[self.side])

    @property
    def output_joints(self) -> tuple[Joint, ...]:
        """The joints that are commanded through `output`: all, or those of the arm proper."""
        return self.joints if self.gripper is not None and self.gripper.type == 'in_output' else self.arm_joints

    @property
    def needs_ik(self) -> bool:
        """Whether its joints follow from the pose in the action."""
        return self.pose_in_action and any(joint.channel is None for joint in self.joints)


@dataclass(frozen=True)
class Camera:
    """A camera as the robot publishes it, and what of its images becomes data.

    `width` and `height` (pixels) are those of the images that come. If asked for, they are undistorted (`rectify`) as
    the CameraInfo on `info_topic` says, then cut to `crop` (x, y of the upper left corner, width, height), then brought
    to the size `resize` (width, height). `transport` is 'raw' (sensor_msgs/Image on `image_topic`) or 'compressed'
    (sensor_msgs/CompressedImage on the topic below it, as image_transport has it).
    """

    name: str
    image_topic: str
    info_topic: str
    frame_id: str
    width: int
    height: int
    transport: str = 'raw'
    rectify: bool = False
    crop: tuple[int, int, int, int] | None = None
    resize: tuple[int, int] | None = None

    @property
    def topic(self) -> str:
        """Where its images come."""
        return self.image_topic if self.transport == 'raw' else f'{self.image_topic}/{self.transport}'

    @property
    def view_size(self) -> tuple[int, int]:
        """Width and height of what becomes data, in pixels."""
        return self.resize or (self.crop[2:] if self.crop else (self.width, self.height))


@dataclass(frozen=True)
class Kinematics:
    """The robot's description, for forward and inverse kinematics and for its limits.

    `format` is 'urdf' or 'mjcf'; `source` is what the profile says. `folder` is that of the profile, None where it is
    not known. `names` maps joints of the profile to those of the file where they differ.
    """

    format: str
    source: str
    folder: Path | None = None
    names: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Find the file.

        Raises:
            ProfileError: there is none; the message says where it was sought and how to get it.
        """
        try:
            return find_resource(self.source, self.folder)
        except FileNotFoundError as error:
            raise ProfileError(f'kinematics.{self.format}: {error}') from error

    def joint_name(self, name: str) -> str:
        """Return what the file calls a joint of the profile."""
        return self.names.get(name, name)


@dataclass(frozen=True)
class RobotProfile:
    """Everything that differs between robots.

    There are three vectors. A *joint vector* has the order of `joints`: what is measured and commanded. An *action
    vector* has the order of `channels`: arm by arm as the profile lists them, in each the pose of the end effector if
    it is in the action (m, unit quaternion x y z w), then the joints that have a channel. The *universal action* has
    30 numbers. For a robot without poses in the action, joint and action vector are the same. Where they are not,
    `joint_vector[acting_joints]` lives at `universal[joint_channels]`.
    """

    name: str
    description: str
    clock: LatentClock
    joint_states_topic: str
    arms: tuple[Arm, ...]
    camera_layout: str
    cameras: tuple[Camera, ...]
    kinematics: Kinematics | None = None

    @cached_property
    def joints(self) -> tuple[Joint, ...]:
        """The joints of all arms, arm by arm."""
        return tuple(joint for arm in self.arms for joint in arm.joints)

    @cached_property
    def channels(self) -> np.ndarray:
        """Channel of the universal action for each value of the action vector, int64 [values]."""
        return np.array([channel for arm in self.arms for channel in arm.channels], dtype=np.int64)

    @cached_property
    def mask(self) -> np.ndarray:
        """Channels that this robot uses, bool [30]."""
        mask = np.zeros(ACTION_DIM, dtype=bool)
        mask[self.channels] = True
        return mask

    @cached_property
    def acting_joints(self) -> np.ndarray:
        """Indices into `joints` of those that are part of the action, int64 [acting joints]."""
        return np.array([i for i, joint in enumerate(self.joints) if joint.channel is not None], dtype=np.int64)

    @cached_property
    def joint_channels(self) -> np.ndarray:
        """Channel of each of the `acting_joints`, int64 [acting joints]."""
        return np.array([joint.channel for joint in self.joints if joint.channel is not None], dtype=np.int64)

    @cached_property
    def joint_columns(self) -> np.ndarray:
        """Where the `acting_joints` are in an action vector, int64 [acting joints]."""
        channels = self.channels.tolist()
        return np.array([channels.index(channel) for channel in self.joint_channels], dtype=np.int64)

    @cached_property
    def value_names(self) -> tuple[str, ...]:
        """What each value of the action vector is: 'left pose x' to 'left pose qw', or the name of a joint."""
        names = {joint.channel: joint.name for joint in self.joints}
        for side, channels in POSE_CHANNELS.items():
            names |= {c: f'{side} pose {axis}' for c, axis in zip(channels, POSE_AXES, strict=True)}
        return tuple(names[channel] for channel in self.channels.tolist())

    def limits(self, field: str) -> np.ndarray:
        """One field of every joint ('lower', 'upper', 'velocity', 'acceleration', 'home', 'margin'), float64 [joints].

        'lower' and 'upper' are the profile's own; commands stay `margin` inside.
        """
        return np.array([getattr(joint, field) for joint in self.joints], dtype=np.float64)

    def to_universal(self, actions: np.ndarray) -> np.ndarray:
        """Scatter action vectors [..., values] into zero-padded universal actions, float32 [..., 30]."""
        self._check_width(actions, len(self.channels), 'an action vector')
        universal = np.zeros((*actions.shape[:-1], ACTION_DIM), dtype=np.float32)
        universal[..., self.channels] = actions
        return universal

    def from_universal(self, universal: np.ndarray) -> np.ndarray:
        """Gather action vectors [..., values] from universal actions [..., 30]."""
        self._check_width(universal, ACTION_DIM, 'a universal action')
        return universal[..., self.channels]

    def _check_width(self, values: np.ndarray, width: int, what: str) -> None:
        if values.ndim == 0 or values.shape[-1] != width:
            raise ProfileError(f'the shape {values.shape} does not end in {width}, the size of {what} of {self.name}')


POSE_AXES = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')
