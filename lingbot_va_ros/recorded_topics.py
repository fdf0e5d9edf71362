"""What a recording holds: every topic of a graph with its type and its quality of service."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Bool, Float64, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from lingbot_va_core.robot import Arm, Camera, RobotProfile
from lingbot_va_msgs.msg import (
    ActionChunk,
    ActionState,
    DualArmCommand,
    Episode,
    ExecutedActions,
    LatentFrame,
    PredictionError,
    Status,
)
from lingbot_va_ros.qos import (
    CHUNK,
    COMMAND,
    DIAGNOSTICS,
    LATCHED,
    OPERATOR,
    PRESSES,
    SENSOR,
    SIMULATION_CLOCK,
    STREAM,
    TRAJECTORY,
)

DEPTH = 100  # messages that DDS keeps for a recorder until it looks again, far above what arrives
JOINT_MESSAGES = {'joint_trajectory': JointTrajectory, 'joint_group': Float64MultiArray, 'joint_state': JointState}


@dataclass(frozen=True)
class RecordedTopic:
    """A topic as its publisher offers it; relative names follow the recorder's namespace.

    Attributes:
        name, kind, qos: of the topic.
        awaited: whether its publisher belongs to the graph, so that a recording without it is not complete.
    """

    name: str
    kind: type
    qos: QoSProfile
    awaited: bool = True

    @property
    def type_name(self) -> str:
        """The type's full name, such as 'sensor_msgs/msg/Image'."""
        return f'{self.kind.__module__.split(".")[0]}/msg/{self.kind.__name__}'

    @property
    def subscription(self) -> QoSProfile:
        """How a recorder subscribes: with the publisher's reliability and durability, but a deeper queue."""
        return QoSProfile(depth=DEPTH, reliability=self.qos.reliability, durability=self.qos.durability)


def recorded_topics(profile: RobotProfile, latents: bool = True, imagined_video: bool = False) -> list[RecordedTopic]:
    """List the topics of the graph that serves this robot.

    Args:
        profile: of the robot.
        latents: also the latent frames of perception, which could be encoded again from the images.
        imagined_video: also the imagined latent frames as images; somebody who subscribes makes perception decode them.
    """
    cameras = [
        RecordedTopic(name, kind, SENSOR)
        for camera in profile.cameras
        for name, kind in ((camera.topic, image_type(camera)), (camera.info_topic, CameraInfo))
    ]
    return [
        *cameras,
        *[
            RecordedTopic(imagined_topic(each), Image, SENSOR, awaited=False)
            for each in profile.cameras
            if imagined_video
        ],
        RecordedTopic(profile.joint_states_topic, JointState, SENSOR),
        *{topic.name: topic for arm in profile.arms for topic in _outputs(arm)}.values(),
        RecordedTopic('episode', Episode, LATCHED),
        *([RecordedTopic('latents', LatentFrame, STREAM)] if latents else []),
        RecordedTopic('imagined', LatentFrame, STREAM),
        RecordedTopic('prediction_error', PredictionError, STREAM),
        RecordedTopic('action_chunk', ActionChunk, CHUNK),
        RecordedTopic('executed_actions', ExecutedActions, STREAM),
        RecordedTopic('command', DualArmCommand, COMMAND),
        RecordedTopic('action_state', ActionState, LATCHED),
        RecordedTopic('e_stop', Bool, PRESSES, awaited=False),
        RecordedTopic('enable', Bool, OPERATOR, awaited=False),
        RecordedTopic('speed_scale', Float64, OPERATOR, awaited=False),
        RecordedTopic('status', Status, LATCHED),
        RecordedTopic('task_success', Bool, LATCHED),
        RecordedTopic('/diagnostics', DiagnosticArray, DIAGNOSTICS),
        RecordedTopic('/clock', Clock, SIMULATION_CLOCK, awaited=False),
    ]


def image_type(camera: Camera) -> type:
    """Return the type of the messages on `camera.topic`."""
    return Image if camera.transport == 'raw' else CompressedImage


def imagined_topic(camera: Camera) -> str:
    """Return the topic of a camera's imagined images, beside its own."""
    return f'imagined/{camera.image_topic.lstrip("/")}'


def _outputs(arm: Arm) -> list[RecordedTopic]:
    """List the topics on which an arm is commanded; goals of gripper actions are none."""
    joints = [output for output in (arm.output, arm.gripper) if output is not None and output.topic]
    outputs = [RecordedTopic(output.topic, JOINT_MESSAGES[output.type], TRAJECTORY) for output in joints]
    if (tool := arm.end_effector) and tool.pose_topic:
        outputs.append(RecordedTopic(tool.pose_topic, PoseStamped, TRAJECTORY))
    if tool and tool.trajectory_topic:
        outputs.append(RecordedTopic(tool.trajectory_topic, MultiDOFJointTrajectory, TRAJECTORY))
    return outputs
