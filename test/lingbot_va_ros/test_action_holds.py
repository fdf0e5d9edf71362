"""What goes wrong in the midst of motion, in the world model or the simulation: the arms brake and hold at once."""

import os
import signal
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from action_stage import HOME, MS, PROFILE, chunk_of, motion, positions, ramp
from std_srvs.srv import Trigger
from support import Graph

from lingbot_va_msgs.msg import ActionChunk, ActionState, DualArmCommand, Episode
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.client_node import ClientNode
from lingbot_va_ros.conversions import to_ns, to_time
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.task_client import run_task

PATIENCE_S = 60.0
ALLOWED_NS = 100 * MS


class Rig:
    """The whole graph on the simulated robot; the world model is apart, so that its end is not that of the others."""

    def __init__(self, graph: Graph, brain: Bringup | None = None, client: ClientNode | None = None) -> None:
        self.graph, self.brain, self._client = graph, brain, client
        self.commands = graph.collect('command', DualArmCommand, qos.COMMAND)
        self.states = graph.collect('action_state', ActionState, qos.LATCHED)
        self.episodes = graph.collect('episode', Episode, qos.LATCHED)
        self.chunks = graph.collect('action_chunk', ActionChunk, qos.CHUNK)
        self.sender = graph.node.create_publisher(ActionChunk, 'action_chunk', qos.CHUNK)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def move(self) -> int:
        """Start a task and wait until the arms move; return its episode."""
        self._done.clear()
        before = len(self.commands)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.graph.wait_for(
            lambda: sum(c.action_index >= 0 for c in self.commands[before:]) >= 8, PATIENCE_S, 'moving arms'
        )
        return self.commands[-1].episode

    def finish(self) -> None:
        """End the task, whatever has become of it."""
        self._done.set()
        self._thread.join(PATIENCE_S)

    def check_hold(self, since: int) -> None:
        """Wait until the arms hold; from 100 ms after the last action they have not moved at all."""

        def held() -> bool:
            tail = self.commands[max(since, len(self.commands) - 25) :]
            return len(tail) == 25 and all(command.action_index == DualArmCommand.HOLD for command in tail)

        self.graph.wait_for(held, PATIENCE_S, 'the hold')
        commands = self.commands[since - 1 :]
        path, times = positions(commands), np.array([to_ns(command.header.stamp) for command in commands])
        last = max((k for k, command in enumerate(commands) if command.action_index >= 0), default=0)
        resting = path[times >= times[last] + ALLOWED_NS]
        assert len(resting) >= 10
        np.testing.assert_array_equal(resting, np.tile(resting[0], (len(resting), 1)))
        velocities, accelerations = motion(commands)
        assert (np.abs(velocities) <= PROFILE.limits('velocity') + 1e-3).all()
        assert (np.abs(accelerations) <= PROFILE.limits('acceleration') + 0.05).all()
        assert not np.allclose(resting[0], 0)

    def _run(self) -> None:
        try:
            run_task('move', 600.0, stop=self._done.is_set, patience_s=5.0, client=self._client)
        except RuntimeError:  # the world model is gone
            self._done.wait(PATIENCE_S)


@pytest.fixture(scope='module')
def rig() -> Iterator[Rig]:
    table = {spec.name: spec for spec in nodes(simulation=True)}
    body = [table[name] for name in ('sim_bridge', 'action', 'perception')]
    with (
        Graph('listener') as graph,
        ClientNode('client') as client,
        Bringup(body, {'robot': 'aloha', 'checkpoint': 'none'}, log=lambda line: None),
        Bringup([table['world_model']], {'robot': 'aloha', 'checkpoint': 'none'}, log=lambda line: None) as brain,
    ):
        yield Rig(graph, brain, client)


def test_while_the_world_model_hangs_the_arms_hold(rig: Rig) -> None:
    rig.move()
    pid = rig.brain.pids['world_model']
    os.kill(pid, signal.SIGSTOP)
    try:
        rig.check_hold(len(rig.commands))
    finally:
        os.kill(pid, signal.SIGCONT)
    rig.finish()


def test_garbage_stops_the_arms_and_stays_refused(rig: Rig) -> None:
    episode = rig.move()
    since = len(rig.commands)
    for number in range(40):
        malformed = ({'actions': [0.0] * 477}, {'mask': [True] * 30}, {'latent_frames': 2}, {'actions_per_latent': 8})
        rig.sender.publish(garbage(episode, number, **malformed[number % 4]))
    rig.sender.publish(garbage(episode, 40, actions=[float('nan')] * 480))
    rig.graph.wait_for(lambda: rig.states[-1].state == ActionState.FAULT, what='the fault')
    rig.check_hold(since)
    rig.finish()
    rig.graph.wait_for(lambda: rig.graph.call('action/reset', Trigger).success, what='the reset')


def garbage(episode: int, number: int, **changes: object) -> ActionChunk:
    """A chunk with something wrong."""
    fields = {'latent_frames': 1, 'actions_per_latent': 16, 'mask': PROFILE.mask.tolist(), 'actions': [0.0] * 480}
    return ActionChunk(episode=episode, chunk=1000 + number, **{**fields, **changes})


def test_when_the_world_model_is_killed_the_arms_hold(rig: Rig) -> None:
    rig.move()
    os.kill(rig.brain.pids['world_model'], signal.SIGKILL)
    rig.check_hold(len(rig.commands))
    assert np.abs(positions(rig.commands[-1:])[0] - HOME).max() < 1.5
    rig.finish()


def test_when_the_simulation_is_reset_the_arms_brake_without_a_jump_and_a_fault_is_latched() -> None:
    table = {spec.name: spec for spec in nodes(simulation=True)}
    body, apart = [table['sim_bridge'], table['action']], 'apart'
    with Graph('listener', namespace=apart) as graph, Bringup(body, namespace=apart, log=lambda line: None):
        rig, chunk = Rig(graph), chunk_of(ramp(1.5, frames=4))
        graph.node.create_publisher(Episode, 'episode', qos.LATCHED).publish(Episode(episode=1, task=1))
        graph.wait_for(lambda: rig.commands and rig.commands[-1].episode == 1, what='the episode')
        chunk.episode, chunk.header.stamp = 1, to_time(graph.node.get_clock().now().nanoseconds + 60 * MS)
        graph.wait_for(lambda: rig.sender.get_subscription_count() == 2, what='the match')  # the rig is one
        rig.sender.publish(chunk)
        graph.wait_for(lambda: positions(rig.commands[-1:])[0, 0] > 1.2, what='a waist far from home')
        moving = len(rig.commands)
        assert graph.call('sim_bridge/reset', Trigger).success
        rig.check_hold(moving)
        graph.wait_for(lambda: rig.states[-1].state == ActionState.FAULT, what='the fault')
        assert 'a joint does not follow' in rig.states[-1].reason
