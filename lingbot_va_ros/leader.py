"""Leads the simulated robot of a running graph as a person with leader arms would: a scripted expert's motion."""

import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_window import CommandWindow, ToolPoses
from lingbot_va_core.kinematics import read_kinematics
from lingbot_va_core.robot import load_profile
from lingbot_va_ros import recording_events as events
from lingbot_va_ros.client_node import ClientNode
from lingbot_va_ros.command_outputs import make_outputs
from lingbot_va_ros.conversions import to_ns
from lingbot_va_ros.episode_marker import NODE as RECORDER
from lingbot_va_ros.graph_parameters import read_parameters
from lingbot_va_ros.qos import LATCHED
from lingbot_va_ros.sim_bridge_node import STARTED
from lingbot_va_sim.demonstrations import demonstrate
from lingbot_va_sim.experts import find_expert
from lingbot_va_sim.experts.expert import Expert
from lingbot_va_sim.simulation import Simulation

POINTS = 2  # of a trajectory: where to be after a control period, and a stop after the next
BEFORE_S, AFTER_S = 0.2, 0.6  # the arms hold so long before and after a motion
READY_S, PATIENCE_S = 30.0, 5.0
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
ROBOT_ALONE = 'start the robot alone with `lingbot-va up --nodes sim_bridge`'


class LeadError(RuntimeError):
    """A graph that cannot be led, in one line."""


@dataclass(frozen=True)
class Led:
    """A demonstration that was made: the seed of its start, the length of its motion, and whether it did the task."""

    seed: int
    seconds: float
    solved: bool


class Leader:
    """Makes one demonstration after another; `with Leader() as leader: leader.lead()`.

    The motion is planned on a simulation of its own, from the start that the robot's simulation has drawn, without
    noise or mistakes on purpose. At each sample of the joints, one in a control period, the next command is sent on the
    topics that the profile names: so a simulation that cannot keep up is led more slowly. Nobody corrects the arms.

    Attributes:
        robot, task: what is led.
    """

    def __init__(self, namespace: str = '') -> None:
        """Find the robot's simulation and load its scene.

        Raises:
            ParametersError: there is none.
            SimulationError: there is no expert for its task.
        """
        values = read_parameters('sim_bridge', ['robot', 'chosen_task'], namespace)
        self.robot, self.task = values['robot'], values['chosen_task']
        profile = load_profile(self.robot)
        self._dt_s = profile.clock.action_ns / NANOSECONDS
        self._expert = faultless(find_expert(profile.name, self.task))
        self._simulation = Simulation(profile, self.task)
        self._tools = ToolPoses(profile, read_kinematics(profile))
        self._client = ClientNode('leader', namespace)
        node = self._client.node
        before = set(node.publishers)
        self._outputs = make_outputs(profile, node.create_publisher, POINTS)
        self._topics = [publisher.topic_name for publisher in node.publishers if publisher not in before]
        self._services = {}
        self._stamp_ns, self._solved = 0, False
        node.create_subscription(JointState, profile.joint_states_topic, self._on_joints, NEWEST)
        node.create_subscription(Bool, 'task_success', self._on_success, LATCHED)

    def __enter__(self) -> 'Leader':
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def lead(self) -> Led:
        """Draw the next start, do the task and mark it in the recording; one that fails is discarded there.

        Raises:
            LeadError: the robot or the recorder does not answer, or somebody else commands the arms.
            SimulationError: the expert finds no way.
        """
        self._await_joints(READY_S)
        seed = int(self._call('sim_bridge/reset', ROBOT_ALONE).removeprefix(STARTED))
        demonstration = demonstrate(self._simulation, self._expert, seed)
        self._require_alone()
        commands = np.stack(demonstration.executed)
        self._play(self._held(demonstration.states[0], BEFORE_S))
        self._start()
        try:
            self._play(np.concatenate([commands, self._held(commands[-1], AFTER_S)]))
            if self._solved:
                self._mark(events.SUCCESS)
        except BaseException:
            self._mark(events.DISCARD)
            raise
        self._mark(events.STOP if self._solved else events.DISCARD)
        return Led(seed, len(commands) * self._dt_s, self._solved)

    def _held(self, position: np.ndarray, seconds: float) -> np.ndarray:
        return np.repeat(position[None], round(seconds / self._dt_s), axis=0)

    def _play(self, positions: np.ndarray) -> None:
        """Send positions [n, joints], one row for each control period of the robot."""
        rows = np.concatenate([positions, positions[-1:]])
        velocities = np.gradient(rows, self._dt_s, axis=0)
        for k in range(len(positions)):
            self._await_joints()
            stop = np.stack([velocities[k], np.zeros_like(velocities[k])])
            window = CommandWindow(self._stamp_ns, rows[k : k + POINTS], stop, self._tools)
            for output in self._outputs:
                output.publish(window)

    def _await_joints(self, patience_s: float = PATIENCE_S) -> None:
        before, end = self._stamp_ns, time.monotonic() + patience_s
        while self._stamp_ns == before:
            if time.monotonic() > end:
                raise LeadError(f'the robot has not told its joints for {patience_s:g} s; {ROBOT_ALONE}')
            self._client.executor.spin_once(timeout_sec=PATIENCE_S)

    def _start(self) -> None:
        """Mark the beginning of a demonstration; who is interrupted cannot know whether it has been marked."""
        try:
            self._mark(events.START)
        except KeyboardInterrupt:
            with suppress(LeadError):
                self._mark(events.DISCARD)
            raise

    def _mark(self, event: str) -> None:
        self._call(f'{RECORDER}/{event}', 'start `lingbot-va record` beside the robot')

    def _call(self, name: str, remedy: str) -> str:
        """Call a service and return what it says."""
        if name not in self._services:
            self._services[name] = self._client.node.create_client(Trigger, name)
        client = self._services[name]
        if not client.wait_for_service(PATIENCE_S):
            raise LeadError(f'nobody offers {client.service_name}; {remedy}')
        future = client.call_async(Trigger.Request())
        self._client.executor.spin_until_future_complete(future, PATIENCE_S)
        if not future.done():
            raise LeadError(f'{client.service_name} did not answer within {PATIENCE_S:g} s')
        if not future.result().success:
            raise LeadError(f'{client.service_name}: {future.result().message}')
        return future.result().message

    def _require_alone(self) -> None:
        for topic in self._topics:
            if self._client.node.count_publishers(topic) > 1:
                raise LeadError(f'somebody else commands the arms on {topic}; {ROBOT_ALONE}')

    def _on_joints(self, message: JointState) -> None:
        self._stamp_ns = to_ns(message.header.stamp)

    def _on_success(self, message: Bool) -> None:
        self._solved = message.data


def faultless(expert: type[Expert]) -> type[Expert]:
    """Return the same expert without noise and mistakes: a recording cannot tell them from what should be done."""
    return type(expert.__name__, (expert,), {'MISTAKES': (), 'NOISE_RAD': (0.0,)})
