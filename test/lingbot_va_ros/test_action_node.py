"""The action node alone, between a robot and a world model that the test plays."""

import array
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sample_messages import make_chunk
from sensor_msgs.msg import JointState
from support import Graph
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, ExecutedActions
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup, BringupError
from lingbot_va_ros.conversions import actions_field, to_ns, to_time
from lingbot_va_ros.node_table import nodes

PROFILE = load_profile('aloha')
CLOCK = PROFILE.clock
HOME = PROFILE.limits('home')
ACTION = [spec for spec in nodes(simulation=True) if spec.name == 'action']


class Stage:
    """The node's surroundings: what it sends is collected, what it needs can be published."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.commands = graph.collect('command', DualArmCommand, qos.COMMAND)
        self.executed = graph.collect('executed_actions', ExecutedActions, qos.STREAM)
        self.trajectories = graph.collect(PROFILE.arms[0].output.topic, JointTrajectory, qos.COMMAND)
        self.diagnostics = graph.collect('/diagnostics', DiagnosticArray, qos.DIAGNOSTICS)
        node = graph.node
        self._joints = node.create_publisher(JointState, PROFILE.joint_states_topic, qos.SENSOR)
        self._episodes = node.create_publisher(Episode, 'episode', qos.LATCHED)
        self._chunks = node.create_publisher(ActionChunk, 'action_chunk', qos.CHUNK)
        self.measured: np.ndarray | None = HOME
        self.names = [joint.name for joint in PROFILE.joints]
        node.create_timer(0.02, self._publish_joints)

    def _publish_joints(self) -> None:
        if self.measured is not None:
            self._joints.publish(JointState(name=self.names, position=self.measured[: len(self.names)].tolist()))

    def begin(self, number: int, mode: int = Episode.SYNC) -> None:
        """Start an episode and wait until the node has taken it up."""
        self._episodes.publish(Episode(episode=number, mode=mode))
        self.graph.wait_for(lambda: self.commands and self.commands[-1].episode == number, what=f'episode {number}')

    def send(self, chunk: ActionChunk, episode: int, start_ns: int) -> None:
        """Publish a chunk that begins at `start_ns`."""
        self.graph.wait_for(lambda: self._chunks.get_subscription_count() > 0, what='the subscription of action_chunk')
        chunk.episode = episode
        chunk.header.stamp = to_time(start_ns)
        self._chunks.publish(chunk)

    def now(self) -> int:
        """Time of the node's clock."""
        return self.graph.node.get_clock().now().nanoseconds

    def health(self) -> SimpleNamespace:
        """Newest diagnostic."""
        self.graph.wait_for(lambda: self.diagnostics, what='a diagnostic')
        status = self.diagnostics[-1].status[0]
        return SimpleNamespace(message=status.message, **{pair.key: pair.value for pair in status.values})


def chunk_at(positions: np.ndarray, index: int = 1, number: int = 0) -> ActionChunk:
    """One latent frame of the same joint target."""
    actions = np.tile(PROFILE.to_universal(positions), (16, 1))
    return make_chunk(chunk=number, first_latent_index=index, actions=actions_field(actions))


@pytest.fixture
def stage(graph: Graph) -> Iterator[Stage]:
    """An active node."""
    stage = Stage(graph)
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        yield stage


def positions(commands: list) -> np.ndarray:
    return np.array([PROFILE.from_universal(command.values) for command in commands])


def test_it_holds_what_it_measured_until_a_chunk_comes(graph: Graph) -> None:
    stage = Stage(graph)
    stage.measured = HOME + 0.1 * (PROFILE.limits('upper') - HOME)
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        graph.wait_for(lambda: len(stage.commands) >= 20)
    np.testing.assert_allclose(positions(stage.commands), np.tile(stage.measured, (len(stage.commands), 1)), atol=1e-6)
    assert {command.action_index for command in stage.commands} == {DualArmCommand.HOLD}


def test_without_joint_states_it_commands_nothing_and_says_so(graph: Graph) -> None:
    stage = Stage(graph)
    stage.measured = None
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        graph.wait_for(lambda: stage.diagnostics and 'never came' in stage.health().message, what='the diagnostic')
        assert stage.commands == []
        assert stage.trajectories == []
        stage.measured = HOME
        graph.wait_for(lambda: stage.commands, what='a command once the robot is there')


def test_a_joint_that_the_robot_does_not_report_is_named(graph: Graph) -> None:
    stage = Stage(graph)
    stage.names = stage.names[:-1]
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        graph.wait_for(lambda: stage.diagnostics and 'right_gripper' in stage.health().message, what='the diagnostic')
        assert stage.commands == []


def test_it_follows_a_chunk_and_reports_what_it_executed(stage: Stage) -> None:
    stage.begin(1)
    goal = HOME + np.minimum(0.02 * PROFILE.limits('velocity'), 0.02)
    start = stage.now() + 100_000_000
    stage.send(chunk_at(goal), 1, start)
    stage.graph.wait_for(lambda: stage.executed, what='executed actions')
    executed = stage.executed[0]
    assert (executed.episode, executed.latent_index, executed.chunk) == (1, 1, 0)
    assert to_ns(executed.header.stamp) == start
    assert [to_ns(stamp) for stamp in executed.video_stamps] == [start + (j + 1) * CLOCK.video_ns for j in range(4)]
    rows = PROFILE.from_universal(np.array(executed.actions).reshape(16, 30))
    np.testing.assert_allclose(rows[-1], goal, atol=1e-5)
    assert executed.limited > 0  # a step is not feasible at once
    stage.graph.wait_for(lambda: stage.commands[-1].action_index == DualArmCommand.HOLD, what='the hold at the end')
    np.testing.assert_allclose(positions(stage.commands[-1:])[0], goal, atol=1e-5)


def test_a_malformed_chunk_is_refused_by_name_and_the_arms_hold(stage: Stage) -> None:
    stage.begin(1)
    stage.send(make_chunk(actions=array.array('f', [0.0] * 477)), 1, stage.now())
    stage.graph.wait_for(lambda: stage.diagnostics and '477 numbers' in stage.health().message, what='the diagnostic')
    assert stage.health().refused_chunks == '1'
    np.testing.assert_allclose(positions(stage.commands), np.tile(HOME, (len(stage.commands), 1)), atol=1e-6)


def test_a_chunk_of_another_episode_is_ignored(stage: Stage) -> None:
    stage.begin(2)
    stage.send(chunk_at(HOME + 0.01), 1, stage.now() + 50_000_000)
    count = len(stage.commands)
    stage.graph.wait_for(lambda: len(stage.commands) > count + 30)
    assert all(command.action_index == DualArmCommand.HOLD for command in stage.commands)


def test_late_actions_are_dropped_and_counted(stage: Stage) -> None:
    stage.begin(1)
    stage.send(chunk_at(HOME), 1, stage.now() - 10 * CLOCK.action_ns)
    stage.graph.wait_for(lambda: stage.executed, what='executed actions')
    stage.graph.wait_for(lambda: stage.health().late_actions not in ('', '0'), what='the count')
    assert int(stage.health().late_actions) >= 10
    played = [command.action_index for command in stage.commands if command.action_index != DualArmCommand.HOLD]
    assert not played or min(played) >= 10


def test_a_new_episode_drops_the_plan(stage: Stage) -> None:
    stage.begin(1)
    stage.send(chunk_at(HOME), 1, stage.now() + 300_000_000)
    stage.begin(2)
    count = len(stage.commands)
    stage.graph.wait_for(lambda: len(stage.commands) > count + 50)
    assert {command.action_index for command in stage.commands[count:]} == {DualArmCommand.HOLD}


def test_while_inactive_nothing_is_sent_and_impossible_transitions_are_refused(stage: Stage) -> None:
    graph = stage.graph

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return graph.call('action/change_state', ChangeState, request).success

    graph.wait_for(lambda: stage.commands)
    assert not change(Transition.TRANSITION_CONFIGURE), 'an active node cannot be configured'
    assert change(Transition.TRANSITION_DEACTIVATE)
    count, trajectories = len(stage.commands), len(stage.trajectories)
    assert graph.call('action/get_state', GetState).current_state.label == 'inactive'
    # Whatever was sent before the reply is in by the time of the second reply.
    assert graph.call('action/get_state', GetState).current_state.label == 'inactive'
    settled = (len(stage.commands), len(stage.trajectories))
    assert settled[0] - count <= 2
    assert settled[1] - trajectories <= 2
    assert change(Transition.TRANSITION_CLEANUP)
    assert graph.node.count_publishers('command') == 0
    assert (len(stage.commands), len(stage.trajectories)) == settled
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    graph.wait_for(lambda: len(stage.commands) > settled[0], what='commands again')


def test_a_window_too_short_to_stop_in_is_refused() -> None:
    with (
        pytest.raises(BringupError, match='window_points is 5, but a stop from full speed takes 8'),
        Bringup(ACTION, {'robot': 'aloha'}, node_parameters={'action': {'window_points': 5}}, log=lambda line: None),
    ):
        pass


def test_a_robot_with_end_effectors_in_its_action_is_refused(tmp_path: Path) -> None:
    profile = tmp_path / 'tool.yaml'
    tool = '  left:\n    end_effector: {tool_frame: tool, base_frame: base, in_action: true, outputs: {pose: a}}\n'
    kinematics = 'kinematics: {urdf: /robot.urdf}\n'
    profile.write_text(kinematics + profile_path('aloha').read_text().replace('  left:\n', tool))
    with (
        pytest.raises(BringupError, match='aloha has end effectors in its action; this node commands joints'),
        Bringup(ACTION, {'robot': str(profile)}, log=lambda line: None),
    ):
        pass
