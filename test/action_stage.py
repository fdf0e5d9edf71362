"""The action node between a robot, a world model and an operator that the test plays."""

from types import SimpleNamespace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile
from sample_messages import make_chunk
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64
from std_srvs.srv import Trigger
from support import Graph
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_msgs.msg import ActionChunk, ActionState, DualArmCommand, Episode, ExecutedActions
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import actions_field, to_duration, to_ns, to_time
from lingbot_va_ros.node_table import nodes

PROFILE = load_profile('aloha')
CLOCK = PROFILE.clock
HOME = PROFILE.limits('home')
MS = 1_000_000
ACTION = [spec for spec in nodes(simulation=True) if spec.name == 'action']


class Stage:
    """The node's surroundings: what it sends is collected, what it needs can be published.

    Attributes:
        measured: what the robot reports, float64 [joints]; None: nothing. A robot that `follows` is where it was told.
        lag_ns: with it, the arms report separately, and the second one as it was so long ago.
    """

    def __init__(self, graph: Graph, profile: RobotProfile = PROFILE) -> None:
        self.graph, self.profile = graph, profile
        self.measured: np.ndarray | None = profile.limits('home')
        self.follows = True
        self.lag_ns = 0
        self.names = [joint.name for joint in profile.joints]
        self.commands = graph.collect('command', DualArmCommand, qos.COMMAND)
        self.executed = graph.collect('executed_actions', ExecutedActions, qos.STREAM)
        self.trajectories = graph.collect(profile.arms[0].output.topic, JointTrajectory, qos.COMMAND)
        self.diagnostics = graph.collect('/diagnostics', DiagnosticArray, qos.DIAGNOSTICS)
        self.states = graph.collect('action_state', ActionState, qos.LATCHED)
        node = graph.node
        self._joints = node.create_publisher(JointState, profile.joint_states_topic, qos.SENSOR)
        self._episodes = node.create_publisher(Episode, 'episode', qos.LATCHED)
        self._chunks = node.create_publisher(ActionChunk, 'action_chunk', qos.CHUNK)
        self._operator: dict[tuple, object] = {}
        self._episode = 0
        node.create_timer(0.01, self._publish_joints)

    def _publish_joints(self) -> None:
        if self.measured is None:
            return
        if self.follows and self.commands:
            self.measured = positions(self.commands[-1:], self.profile)[0]
        first, now = len(self.profile.arms[0].joints), self.now()
        parts = ((slice(0, first), 0), (slice(first, None), self.lag_ns)) if self.lag_ns else ((slice(0, None), 0),)
        for part, lag in parts:
            names = self.names[part]
            state = JointState(name=names, position=self.measured[: len(self.names)][part].tolist())
            state.header.stamp = to_time(now - lag)
            self._joints.publish(state)

    def begin(self, mode: int = Episode.SYNC, number: int | None = None) -> int:
        """Start the next episode, or the given one, and wait until the node has taken it up; return its number."""
        self._episode = self._episode + 1 if number is None else number
        self._episodes.publish(Episode(episode=self._episode, mode=mode))
        self.graph.wait_for(
            lambda: self.commands and self.commands[-1].episode == self._episode, what=f'episode {self._episode}'
        )
        return self._episode

    def end(self) -> None:
        """Announce that no episode runs."""
        self._episodes.publish(Episode())
        self.graph.wait_for(lambda: self.commands[-1].episode == 0, what='the end of the episode')

    def send(self, chunk: ActionChunk, start_ns: int | None = None, episode: int | None = None) -> None:
        """Publish a chunk that begins at `start_ns`, or 60 ms from now."""
        self.graph.wait_for(lambda: self._chunks.get_subscription_count() > 0, what='the subscription of action_chunk')
        chunk.episode = self._episode if episode is None else episode
        chunk.header.stamp = to_time(self.now() + 60 * MS if start_ns is None else start_ns)
        self._chunks.publish(chunk)

    def say(self, topic: str, value: bool | float, profile: QoSProfile = qos.OPERATOR) -> None:
        """Publish as the operator."""
        kind = Bool if isinstance(value, bool) else Float64
        key = (topic, profile.durability)
        if key not in self._operator:
            self._operator[key] = self.graph.node.create_publisher(kind, topic, profile)
        publisher = self._operator[key]
        self.graph.wait_for(lambda: publisher.get_subscription_count() > 0, what=f'the subscription of {topic}')
        publisher.publish(kind(data=value))

    def reset(self) -> Trigger.Response:
        """Call the node's reset."""
        return self.graph.call('action/reset', Trigger)

    def now(self) -> int:
        """Time of the node's clock."""
        return self.graph.node.get_clock().now().nanoseconds

    def wait_for_state(self, state: int, timeout: float = 10.0) -> ActionState:
        """Wait until the node's state is this one."""
        self.graph.wait_for(lambda: self.states and self.states[-1].state == state, timeout, f'state {state}')
        return self.states[-1]

    def wait_for_commands(self, count: int) -> list[DualArmCommand]:
        """Wait for so many further commands and return them."""
        begin = len(self.commands)
        self.graph.wait_for(lambda: len(self.commands) >= begin + count, what=f'{count} commands')
        return self.commands[begin:]

    def health(self) -> SimpleNamespace:
        """Newest diagnostic."""
        self.graph.wait_for(lambda: self.diagnostics, what='a diagnostic')
        status = self.diagnostics[-1].status[0]
        return SimpleNamespace(
            level=status.level, message=status.message, **{pair.key: pair.value for pair in status.values}
        )


def chunk_at(goal: np.ndarray, index: int = 1, number: int = 0, frames: int = 1) -> ActionChunk:
    """Latent frames of the same joint target."""
    return chunk_of(np.tile(goal, (16 * frames, 1)), index, number)


def chunk_of(rows: np.ndarray, index: int = 1, number: int = 0, dt_ns: int = CLOCK.action_ns) -> ActionChunk:
    """A chunk of these joint positions [actions, joints]."""
    return make_chunk(
        chunk=number, first_latent_index=index, latent_frames=len(rows) // 16, dt=to_duration(dt_ns),
        actions=actions_field(PROFILE.to_universal(rows)),
    )  # fmt: skip


def ramp(speed: float, frames: int, begin: np.ndarray = HOME) -> np.ndarray:
    """Positions [actions, joints] of a motion of the left waist at `speed` rad/s, the other joints at rest."""
    rows = np.tile(begin, (16 * frames, 1))
    rows[:, 0] += speed * CLOCK.action_ns * 1e-9 * np.arange(1, len(rows) + 1)
    return rows


def positions(commands: list[DualArmCommand], profile: RobotProfile = PROFILE) -> np.ndarray:
    """Joint positions [commands, joints]."""
    return np.array([profile.from_universal(command.values) for command in commands], dtype=np.float64)


def motion(commands: list[DualArmCommand], profile: RobotProfile = PROFILE) -> tuple[np.ndarray, np.ndarray]:
    """Velocities and accelerations [n, joints] from command to command.

    Until a late command the arms have gone on by themselves. Its velocity is taken over that time, and its acceleration
    is left out (0): test_command_planner.py looks at it, on a clock of its own.
    """
    commands, dt = commands[:], profile.clock.action_ns * 1e-9  # others may come meanwhile
    spans = np.diff([to_ns(command.header.stamp) for command in commands]) * 1e-9
    late = spans > 1.5 * dt
    velocities = np.diff(positions(commands, profile), axis=0) / np.where(late, spans, dt)[:, None]
    accelerations = np.diff(velocities, axis=0) / dt
    accelerations[late[1:] | late[:-1]] = 0.0
    return velocities, accelerations
