"""Commands in the form that each of the robot's controllers takes; one class per form, messages allocated once."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from geometry_msgs.msg import PoseStamped, Transform
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, MultiArrayDimension
from trajectory_msgs.msg import (
    JointTrajectory,
    JointTrajectoryPoint,
    MultiDOFJointTrajectory,
    MultiDOFJointTrajectoryPoint,
)

from lingbot_va_core.command_window import CommandWindow
from lingbot_va_core.robot import EndEffector, Joint, RobotProfile
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import to_duration, to_time

MakePublisher = Callable[[type, str, QoSProfile], Any]


class Output(Protocol):
    """Sends its part of a window."""

    def publish(self, window: CommandWindow) -> None:
        """Send it."""


class TrajectoryOutput:
    """A rolling trajectory for a joint_trajectory_controller: a few points of motion, then a stop within the limits.

    Such a controller replaces the old trajectory by each new one, or splices the new one in at its stamp: both are the
    same motion, because each one has all that is planned. If none comes any more it runs to the end of the last, which
    is at rest, and holds.
    """

    def __init__(
        self,
        make: MakePublisher,
        topic: str,
        joints: list[tuple[int, Joint]],
        points: int,
        dt_ns: int,
        stamped: bool = False,
    ) -> None:
        self._stamped = stamped
        self._columns = _columns(joints)
        self._publisher = make(JointTrajectory, topic, qos.TRAJECTORY)
        self._message = JointTrajectory(joint_names=[joint.name for _, joint in joints])
        self._message.points = [
            JointTrajectoryPoint(time_from_start=to_duration((k + 1) * dt_ns)) for k in range(points)
        ]

    def publish(self, window: CommandWindow) -> None:
        """Send the whole window."""
        if self._stamped:
            self._message.header.stamp = to_time(window.stamp_ns)  # else it stays 0: start now
        positions, velocities = window.positions[:, self._columns], window.velocities[:, self._columns]
        for point, position, velocity in zip(
            self._message.points, positions.tolist(), velocities.tolist(), strict=True
        ):
            point.positions = position
            point.velocities = velocity
        self._publisher.publish(self._message)


class GroupOutput:
    """One sample per control period for a forward_command_controller, which neither interpolates nor times out."""

    def __init__(self, make: MakePublisher, topic: str, joints: list[tuple[int, Joint]]) -> None:
        self._columns = _columns(joints)
        self._publisher = make(Float64MultiArray, topic, qos.TRAJECTORY)
        self._message = Float64MultiArray()
        self._message.layout.dim = [MultiArrayDimension(label='joints', size=len(joints), stride=len(joints))]

    def publish(self, window: CommandWindow) -> None:
        """Send the first sample."""
        self._message.data = window.positions[0, self._columns].tolist()
        self._publisher.publish(self._message)


class JointStateOutput:
    """One sample per control period with names, as simulators and impedance controllers take it; for several arms."""

    def __init__(self, make: MakePublisher, topic: str, joints: list[tuple[int, Joint]]) -> None:
        self._columns = _columns(joints)
        self._publisher = make(JointState, topic, qos.TRAJECTORY)
        self._message = JointState(name=[joint.name for _, joint in joints])

    def publish(self, window: CommandWindow) -> None:
        """Send the first sample."""
        message = self._message
        message.header.stamp = to_time(window.stamp_ns)
        message.position = window.positions[0, self._columns].tolist()
        message.velocity = window.velocities[0, self._columns].tolist()
        self._publisher.publish(message)


class PoseOutput:
    """One pose of a tool per control period, in its base frame, while somebody listens."""

    def __init__(self, make: MakePublisher, topic: str, arm: int, tool: EndEffector) -> None:
        self._arm = arm
        self._publisher = make(PoseStamped, topic, qos.TRAJECTORY)
        self._message = PoseStamped()
        self._message.header.frame_id = tool.base_frame

    def publish(self, window: CommandWindow) -> None:
        """Send the first sample."""
        if not self._publisher.get_subscription_count():
            return
        message, pose = self._message, self._message.pose
        message.header.stamp = to_time(window.stamp_ns)
        p, q = pose.position, pose.orientation
        p.x, p.y, p.z, q.x, q.y, q.z, q.w = window.tools.poses(self._arm, window.positions[:1])[0].tolist()
        self._publisher.publish(message)


class PoseTrajectoryOutput:
    """The rolling trajectory of a tool, in its base frame, while somebody listens: it costs as much as all the rest."""

    def __init__(self, make: MakePublisher, topic: str, arm: int, tool: EndEffector, points: int, dt_ns: int) -> None:
        self._arm = arm
        self._publisher = make(MultiDOFJointTrajectory, topic, qos.TRAJECTORY)
        self._message = MultiDOFJointTrajectory(joint_names=[tool.tool_frame])
        self._message.header.frame_id = tool.base_frame
        self._message.points = [
            MultiDOFJointTrajectoryPoint(transforms=[Transform()], time_from_start=to_duration((k + 1) * dt_ns))
            for k in range(points)
        ]

    def publish(self, window: CommandWindow) -> None:
        """Send the whole window, which begins at its stamp."""
        if not self._publisher.get_subscription_count():
            return
        poses = window.tools.poses(self._arm, window.positions)
        self._message.header.stamp = to_time(window.stamp_ns)
        for point, row in zip(self._message.points, poses.tolist(), strict=True):
            t, r = point.transforms[0].translation, point.transforms[0].rotation
            t.x, t.y, t.z, r.x, r.y, r.z, r.w = row
        self._publisher.publish(self._message)


def make_outputs(profile: RobotProfile, make: MakePublisher, points: int) -> list[Output]:
    """Build the outputs that a profile asks for on topics; grippers that take goals are in gripper_goals.py."""
    dt_ns = profile.clock.action_ns
    outputs: list[Output] = []
    shared: dict[str, list[tuple[int, Joint]]] = {}  # joint_state topics, which arms may share
    for number, (arm, first) in enumerate(zip(profile.arms, first_joints(profile), strict=True)):
        numbered = list(enumerate(arm.joints, first))
        gripper = arm.gripper_joint
        sinks = [(arm.output, [pair for pair in numbered if pair[1] in arm.output_joints])] if arm.output else []
        if gripper is not None and arm.gripper is not None and arm.gripper.topic:
            sinks.append((arm.gripper, [pair for pair in numbered if pair[1] is gripper]))
        for sink, joints in sinks:
            if not joints:
                continue
            if sink.type == 'joint_trajectory':
                stamped = arm.output is not None and arm.output.stamped
                outputs.append(TrajectoryOutput(make, sink.topic, joints, points, dt_ns, stamped))
            elif sink.type == 'joint_group':
                outputs.append(GroupOutput(make, sink.topic, joints))
            else:
                shared.setdefault(sink.topic, []).extend(joints)
        tool = arm.end_effector
        if tool and tool.pose_topic:
            outputs.append(PoseOutput(make, tool.pose_topic, number, tool))
        if tool and tool.trajectory_topic:
            outputs.append(PoseTrajectoryOutput(make, tool.trajectory_topic, number, tool, points, dt_ns))
    outputs += [JointStateOutput(make, topic, joints) for topic, joints in shared.items()]
    return outputs


def first_joints(profile: RobotProfile) -> Iterable[int]:
    """Yield the index in the joint vector of each arm's first joint."""
    first = 0
    for arm in profile.arms:
        yield first
        first += len(arm.joints)


def _columns(joints: list[tuple[int, Joint]]) -> slice | list[int]:
    """Return the columns of these joints; a slice, which makes a view, where they follow each other."""
    columns = [i for i, _ in joints]
    consecutive = columns == list(range(columns[0], columns[-1] + 1))
    return slice(columns[0], columns[-1] + 1) if consecutive else columns
