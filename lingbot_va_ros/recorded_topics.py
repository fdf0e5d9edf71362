"""What a recording holds: every topic of a graph with its type and its quality of service."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.robot import RobotProfile
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, ExecutedActions, LatentFrame, Status
from lingbot_va_ros.qos import CHUNK, COMMAND, DIAGNOSTICS, LATCHED, SENSOR, STREAM, TRAJECTORY


@dataclass(frozen=True)
class RecordedTopic:
    """A topic as its publisher offers it; relative names follow the recorder's namespace."""

    name: str
    kind: type
    qos: QoSProfile

    @property
    def type_name(self) -> str:
        """The type's full name, such as 'sensor_msgs/msg/Image'."""
        return f'{self.kind.__module__.split(".")[0]}/msg/{self.kind.__name__}'


def recorded_topics(profile: RobotProfile) -> list[RecordedTopic]:
    """List the topics of the graph that serves this robot."""
    cameras = [
        RecordedTopic(name, kind, SENSOR)
        for camera in profile.cameras
        for name, kind in ((camera.image_topic, Image), (camera.info_topic, CameraInfo))
    ]
    trajectories = [RecordedTopic(arm.trajectory_topic, JointTrajectory, TRAJECTORY) for arm in profile.arms]
    return [
        *cameras,
        RecordedTopic(profile.joint_states_topic, JointState, SENSOR),
        *trajectories,
        RecordedTopic('episode', Episode, LATCHED),
        RecordedTopic('latents', LatentFrame, STREAM),
        RecordedTopic('imagined', LatentFrame, STREAM),
        RecordedTopic('action_chunk', ActionChunk, CHUNK),
        RecordedTopic('executed_actions', ExecutedActions, STREAM),
        RecordedTopic('command', DualArmCommand, COMMAND),
        RecordedTopic('status', Status, LATCHED),
        RecordedTopic('task_success', Bool, LATCHED),
        RecordedTopic('/diagnostics', DiagnosticArray, DIAGNOSTICS),
    ]
