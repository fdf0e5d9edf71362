"""The action node inside this process, on a clock that the test turns: thousands of control periods in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from action_stage import CLOCK, HOME, PROFILE
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from support import node_of

from lingbot_va_msgs.msg import ActionChunk, Episode
from lingbot_va_ros.action_node import ActionNode
from lingbot_va_ros.conversions import to_time


class ActionBench:
    """Calls the callbacks of an active node as its executor would, and plays a robot that follows.

    Attributes:
        commands: number of control periods in which something was commanded.
    """

    def __init__(self, node: ActionNode) -> None:
        self.node = node
        self.now_ns = 1_000_000_000_000
        self.commands = 0
        self._clock = node.get_clock()
        self._clock._set_ros_time_is_active(True)
        self._episode = 0
        self._set_clock()
        self._measured = HOME
        self.tick()

    @property
    def counts(self) -> dict[str, int]:
        """Counters of the node."""
        return dict(self.node._stats.counts)

    def begin(self, task: int | None = None) -> int:
        """Start the next episode, of a new task or of the given one."""
        self._episode += 1
        self.node._on_episode(Episode(episode=self._episode, task=self._episode if task is None else task))
        return self._episode

    def send(self, chunk: ActionChunk, start_ns: int | None = None) -> None:
        """Deliver a chunk of the running episode, which begins in 60 ms unless it says when."""
        if start_ns is not None:
            chunk.header.stamp = to_time(start_ns)
        self.node._on_chunk(chunk)

    def tick(self) -> np.ndarray:
        """Let one control period pass; return the window of positions [points, joints] that was sent."""
        self.now_ns += CLOCK.action_ns
        self._set_clock()
        state = JointState(name=[joint.name for joint in PROFILE.joints], position=self._measured.tolist())
        state.header.stamp = to_time(self.now_ns)
        self.node._on_joint_states(state)
        self.node._tick()
        self.commands += 1
        self._measured = self.node._planner.window.positions[0]
        return self.node._planner.window.positions

    def reset(self) -> Trigger.Response:
        """Call the reset service."""
        return self.node._on_reset(Trigger.Request(), Trigger.Response())

    def _set_clock(self) -> None:
        self._clock.set_ros_time_override(Time(nanoseconds=self.now_ns, clock_type=self._clock.clock_type))


def configured(*parameters: str) -> TransitionCallbackReturn:
    """Configure a node with parameters given as 'name:=value'; return what came of it."""
    with node_of(ActionNode, *parameters) as node:
        return node.trigger_configure()


@contextmanager
def action_bench(*parameters: str) -> Iterator[ActionBench]:
    """An active node with its default parameters, but for those given as 'name:=value'."""
    with node_of(ActionNode, *parameters) as node:
        node.trigger_configure()
        node.trigger_activate()
        yield ActionBench(node)
