"""Every form of command as a controller receives it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from support import Graph
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from lingbot_va_core.command_window import CommandWindow
from lingbot_va_core.robot import Arm, EndEffector, GripperOutput, Output, RobotProfile, load_profile
from lingbot_va_ros.command_outputs import make_outputs
from lingbot_va_ros.conversions import to_ns

pytestmark = pytest.mark.patient  # no node runs
ALOHA = load_profile('aloha')
PROFILE = replace(ALOHA, arms=tuple(replace(arm, end_effector=None, workspace=None) for arm in ALOHA.arms))
NAMES = [joint.name for joint in PROFILE.joints]
POINTS = 5
DT = PROFILE.clock.action_ns


class Tools:
    """Every number is different."""

    numbers = np.random.default_rng(1).normal(size=(2, POINTS, 7))

    def poses(self, arm: int, positions: np.ndarray) -> np.ndarray:
        """As `ToolPoses`, without kinematics."""
        return self.numbers[arm, : len(positions)]


def window() -> CommandWindow:
    """Every number is different."""
    draw = np.random.default_rng(0).normal
    shape = (POINTS, len(NAMES))
    return CommandWindow(5_000_000_123, draw(size=shape), draw(size=shape), Tools())


def variant(**changes: Any) -> RobotProfile:
    """ALOHA with other outputs on both arms; `{side}` stands for the arm."""

    def fill(value: Any, side: str) -> Any:
        return replace(value, **{k: v.format(side=side) for k, v in vars(value).items() if isinstance(v, str)})

    def change(arm: Arm) -> Arm:
        return replace(arm, **{name: fill(value, arm.side) for name, value in changes.items()})

    return replace(PROFILE, arms=tuple(change(arm) for arm in PROFILE.arms))


def sent(graph: Graph, profile: RobotProfile, topics: dict[str, type]) -> list[Any]:
    """Publish one window; return what came on each of the topics."""
    received = [graph.collect(topic, kind) for topic, kind in topics.items()]
    outputs = make_outputs(profile, graph.node.create_publisher, POINTS)
    assert len(outputs) == len(topics)
    for topic in topics:
        graph.wait_for(lambda topic=topic: graph.node.count_subscribers(topic) == 1, what=topic)
    for output in outputs:
        graph.wait_for(lambda output=output: output._publisher.get_subscription_count() == 1, what='the match')
        output.publish(window())
    graph.wait_for(lambda: all(received), what='all outputs')
    assert all(len(messages) == 1 for messages in received)
    return [messages[0] for messages in received]


def test_a_trajectory_has_the_whole_window_with_velocities(graph: Graph) -> None:
    topics = dict.fromkeys((arm.output.topic for arm in PROFILE.arms), JointTrajectory)
    for k, message in enumerate(sent(graph, PROFILE, topics)):
        part = slice(7 * k, 7 * k + 7)
        assert message.joint_names == NAMES[part]
        assert to_ns(message.header.stamp) == 0, 'start now'
        assert [to_ns(point.time_from_start) for point in message.points] == [(i + 1) * DT for i in range(POINTS)]
        np.testing.assert_array_equal([point.positions for point in message.points], window().positions[:, part])
        np.testing.assert_array_equal([point.velocities for point in message.points], window().velocities[:, part])


def test_trajectories_for_controllers_that_splice_say_when_they_begin(graph: Graph) -> None:
    profile = variant(output=Output('joint_trajectory', '{side}/joint_trajectory', stamped=True))
    topics = dict.fromkeys((arm.output.topic for arm in profile.arms), JointTrajectory)
    for message in sent(graph, profile, topics):
        assert to_ns(message.header.stamp) == window().stamp_ns


def test_a_gripper_can_have_a_trajectory_of_its_own(graph: Graph) -> None:
    profile = variant(gripper=GripperOutput('joint_trajectory', topic='{side}_gripper/joint_trajectory'))
    arm, gripper, *_ = sent(
        graph,
        profile,
        {
            'left_arm_controller/joint_trajectory': JointTrajectory,
            'left_gripper/joint_trajectory': JointTrajectory,
            'right_arm_controller/joint_trajectory': JointTrajectory,
            'right_gripper/joint_trajectory': JointTrajectory,
        },
    )
    assert arm.joint_names == NAMES[:6]
    assert gripper.joint_names == ['left_gripper']
    np.testing.assert_array_equal([point.positions for point in gripper.points], window().positions[:, 6:7])


def test_a_group_gets_the_first_sample_in_the_order_of_the_joints(graph: Graph) -> None:
    profile = variant(
        output=Output('joint_group', '{side}_group/commands'),
        gripper=GripperOutput('joint_group', topic='{side}_gripper/commands'),
    )
    topics = ('left_group/commands', 'left_gripper/commands', 'right_group/commands', 'right_gripper/commands')
    parts = (slice(0, 6), slice(6, 7), slice(7, 13), slice(13, 14))
    for message, part in zip(sent(graph, profile, dict.fromkeys(topics, Float64MultiArray)), parts, strict=True):
        np.testing.assert_array_equal(message.data, window().positions[0, part])
        assert [dim.size for dim in message.layout.dim] == [part.stop - part.start]


@pytest.mark.parametrize('topic', ['joint_command', '{side}/joint_command'])
def test_arms_that_share_a_joint_state_topic_go_out_in_one_message(graph: Graph, topic: str) -> None:
    profile = variant(output=Output('joint_state', topic))
    topics = dict.fromkeys((arm.output.topic for arm in profile.arms), JointState)
    messages = sent(graph, profile, topics)
    assert [name for message in messages for name in message.name] == NAMES
    assert len(messages) == (2 if 'side' in topic else 1)
    np.testing.assert_array_equal(np.concatenate([m.position for m in messages]), window().positions[0])
    np.testing.assert_array_equal(np.concatenate([m.velocity for m in messages]), window().velocities[0])
    assert to_ns(messages[0].header.stamp) == window().stamp_ns


def test_tools_go_out_in_their_base_frame_as_a_pose_and_as_a_trajectory(graph: Graph) -> None:
    tool = EndEffector('{side}_tool', '{side}_base', False, pose_topic='{side}/pose', trajectory_topic='{side}/path')
    profile = variant(end_effector=tool, output=Output('joint_state', 'all'))
    topics = {'all': JointState}
    for side in ('left', 'right'):
        topics |= {f'{side}/pose': PoseStamped, f'{side}/path': MultiDOFJointTrajectory}
    _, pose, path, _, right_path = sent(graph, profile, topics)
    assert (pose.header.frame_id, to_ns(pose.header.stamp)) == ('left_base', window().stamp_ns)
    assert numbers(pose.pose.position, pose.pose.orientation) == pytest.approx(Tools.numbers[0, 0])
    assert (path.header.frame_id, path.joint_names) == ('left_base', ['left_tool'])
    assert to_ns(path.header.stamp) == window().stamp_ns
    assert [to_ns(point.time_from_start) for point in path.points] == [(i + 1) * DT for i in range(POINTS)]
    for arm, message in enumerate((path, right_path)):
        rows = [numbers(p.transforms[0].translation, p.transforms[0].rotation) for p in message.points]
        np.testing.assert_allclose(rows, Tools.numbers[arm])


def test_poses_that_nobody_wants_are_not_computed(graph: Graph) -> None:
    tool = EndEffector('{side}_tool', '{side}_base', False, pose_topic='{side}/pose', trajectory_topic='{side}/path')
    plain = CommandWindow(0, window().positions, window().velocities, None)  # has no tools
    for output in make_outputs(variant(end_effector=tool), graph.node.create_publisher, POINTS):
        output.publish(plain)


def numbers(position: Any, orientation: Any) -> list[float]:
    return [position.x, position.y, position.z, orientation.x, orientation.y, orientation.z, orientation.w]
