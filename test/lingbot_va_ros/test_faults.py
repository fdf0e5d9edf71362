"""Faults of the whole graph: the arms hold, and the task goes on from nothing but what was really observed."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from action_stage import motion
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger
from support import Graph, wait_until

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, ExecutedActions, LatentFrame, Status
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.client_node import ClientNode
from lingbot_va_ros.conversions import to_ns, to_time
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.task_client import TaskResult, run_task

PROFILE = load_profile('aloha')
CLOCK = PROFILE.clock
EXCESS = 1e-5  # float32 in DualArmCommand
DT = CLOCK.action_ns / 1e9
PATIENCE_S = 60.0
SECOND = 1_000_000_000
CLOCKED = 'clocked'


class Listener:
    """Collects what the graph says, and runs tasks in the background."""

    def __init__(self, graph: Graph, client: ClientNode) -> None:
        self.graph, self._client = graph, client
        self.episodes = graph.collect('episode', Episode, qos.LATCHED)
        self.chunks = graph.collect('action_chunk', ActionChunk, qos.CHUNK)
        self.latents = graph.collect('latents', LatentFrame, qos.STREAM)
        self.commands = graph.collect('command', DualArmCommand, qos.COMMAND)
        self.statuses = graph.collect('status', Status, qos.LATCHED)
        self.executed = graph.node.create_publisher(ExecutedActions, 'executed_actions', qos.STREAM)
        self._cancel = threading.Event()
        self._results: list[TaskResult] = []

    def start_task(self) -> int:
        """Run a task in the background and return its first episode."""
        known = len(self.episodes)
        self._cancel.clear()
        self._thread = threading.Thread(target=self._run_task)
        self._thread.start()
        return self.wait_for(lambda: [e.episode for e in self.episodes[known:] if e.episode], 'the episode')[0]

    def _run_task(self) -> None:
        stop = self._cancel.is_set
        self._results.append(run_task('move', 600.0, stop=stop, patience_s=30.0, client=self._client))

    def finish_task(self) -> TaskResult:
        """Cancel the task, or take the result that it has."""
        self._cancel.set()
        self._thread.join(PATIENCE_S)
        return self._results[-1]

    def wait_for(self, predicate: Callable[[], object], what: str) -> object:
        """Wait until something is true and return it."""
        return self.graph.wait_for(predicate, PATIENCE_S, what)

    def chunks_of(self, episode: int, count: int) -> list[ActionChunk]:
        """Wait for the first chunks of an episode."""

        def found() -> list[ActionChunk]:
            return [each for each in self.chunks if each.episode == episode]

        self.wait_for(lambda: len(found()) >= count, f'{count} chunks of episode {episode}')
        return found()[:count]

    def recovered(self, episode: int) -> int:
        """Wait for the episode in which the task goes on, and check what its first chunks are predicted from."""

        def found() -> Episode | None:  # the last of several, where the machine is slow
            came = [each.episode for each in self.chunks]
            return next((e for e in self.episodes if e.episode > episode and came.count(e.episode) >= 3), None)

        again = self.wait_for(found, 'another episode with three chunks')
        assert again.task == next(each.task for each in self.episodes if each.episode == episode)
        first, second, _ = self.chunks_of(again.episode, 3)
        assert (first.chunk, list(first.observation_indices), list(first.imagined_indices)) == (0, [0], [])
        assert to_ns(first.observation_stamps[0]) >= to_ns(again.header.stamp)
        assert second.first_latent_index == first.first_latent_index + first.latent_frames
        return again.episode

    def goes_on_after(self, fault: Callable[[ActionChunk], None], chunks: int = 2) -> int:
        """Start a task, cause a fault at the last of so many chunks, and check that the task goes on; then cancel it.

        Returns:
            The episode that ended by the fault.
        """
        first = self.start_task()

        def last() -> ActionChunk | None:  # of the episode that runs: on a slow machine the first may not come so far
            running = self.episodes[-1].episode
            found = (c for c in self.chunks if c.episode == running >= first and c.chunk == chunks - 1)
            return next(found, None)

        chunk = self.wait_for(last, f'{chunks} chunks')
        fault(chunk)
        again = self.recovered(chunk.episode)
        assert self.finish_task().outcome == 'canceled'
        self.assert_arms_held_before(again)
        return chunk.episode

    def assert_arms_held_before(self, episode: int) -> None:
        """Check that all motion was within the limits, and at rest when the first chunk of an episode began."""
        velocities, accelerations = motion(self.commands, PROFILE)
        assert np.all(np.abs(velocities) <= PROFILE.limits('velocity') + EXCESS / DT)
        assert np.all(np.abs(accelerations) <= PROFILE.limits('acceleration') + 2 * EXCESS / DT**2)
        commands = [each for each in self.commands if each.episode == episode]
        moving = [command.action_index != DualArmCommand.HOLD for command in commands]
        first = moving.index(True) if True in moving else len(moving)
        assert first >= 2, 'the arms did not hold'
        held = np.array([command.values for command in commands[first - 2 : first]])
        np.testing.assert_array_equal(held[0], held[1])
        assert not np.all(held[1][PROFILE.channels] == 0)


class ClockedRobot:
    """A robot that is where it was commanded to be, with black images and a clock that the test sets."""

    def __init__(self, graph: Graph) -> None:
        create = graph.node.create_publisher
        self._clock = create(Clock, '/clock', 10)
        self._joints = create(JointState, PROFILE.joint_states_topic, qos.SENSOR)
        self._cameras = [create(Image, camera.image_topic, qos.SENSOR) for camera in PROFILE.cameras]
        self._positions = PROFILE.limits('home')
        graph.node.create_subscription(DualArmCommand, 'command', self._follow, qos.COMMAND)
        self.now_ns = 1_000 * SECOND
        self._ticks = 0
        graph.node.create_timer(CLOCK.action_ns / 1e9, self._tick)

    def _follow(self, command: DualArmCommand) -> None:
        self._positions = PROFILE.from_universal(np.array(command.values))

    def _tick(self) -> None:
        self.now_ns += CLOCK.action_ns
        self._ticks += 1
        stamp = to_time(self.now_ns)
        self._clock.publish(Clock(clock=stamp))
        joints = JointState(name=[joint.name for joint in PROFILE.joints])
        joints.position = self._positions.tolist()
        joints.header.stamp = stamp
        self._joints.publish(joints)
        if self._ticks % (CLOCK.video_ns // CLOCK.action_ns) == 0:
            for camera, publisher in zip(PROFILE.cameras, self._cameras, strict=True):
                size = {'height': camera.height, 'width': camera.width, 'step': 3 * camera.width}
                image = Image(encoding='rgb8', **size)
                image.data.frombytes(bytes(camera.height * camera.width * 3))
                image.header.stamp = stamp
                publisher.publish(image)


def test_when_the_clock_is_set_back_the_task_goes_on() -> None:
    # In a namespace and before the other tests of this file, whose nodes live until its end.
    with Graph('listener', namespace=CLOCKED) as graph, _clocked_robot(graph) as (listener, robot):
        episode = listener.start_task()
        listener.chunks_of(episode, 2)
        before = robot.now_ns
        robot.now_ns -= 20 * SECOND
        again = listener.recovered(episode)
        chunk = listener.chunks_of(again, 1)[0]
        assert to_ns(chunk.header.stamp) < before - 10 * SECOND
        assert listener.finish_task().outcome == 'canceled'
        held = next(each for each in listener.commands if each.episode == again)
        assert held.action_index == DualArmCommand.HOLD


@contextmanager
def _clocked_robot(graph: Graph) -> Iterator[tuple[Listener, ClockedRobot]]:
    robot, parameters = ClockedRobot(graph), {'use_sim_time': True, 'checkpoint': 'none'}
    with (
        ClientNode('client', CLOCKED) as client,
        Bringup(nodes(simulation=False), parameters, namespace=CLOCKED, log=lambda line: None),
    ):
        yield Listener(graph, client), robot


class Cameras:
    """Carries images from the robot to perception, but for those of an outage."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        text = profile_path('aloha').read_text()
        assert 'image: cam_high' in text
        self.profile = folder / 'relayed.yaml'
        self.profile.write_text(text.replace('image: cam', 'image: relayed/cam'))
        self.outage = (0, 0)  # first and last stamp
        for camera in PROFILE.cameras:
            publisher = graph.node.create_publisher(Image, f'relayed/{camera.image_topic}', qos.SENSOR)
            graph.node.create_subscription(Image, camera.image_topic, partial(self._carry, publisher), qos.SENSOR)

    def _carry(self, publisher: object, image: Image) -> None:
        first, last = self.outage
        if not first <= to_ns(image.header.stamp) <= last:
            publisher.publish(image)


@pytest.fixture(scope='module')
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Listener, Cameras, Bringup]]:
    """The whole graph, whose images go through the test's hands."""
    with Graph('listener') as graph, ClientNode('client') as client:
        listener = Listener(graph, client)
        cameras = Cameras(graph, tmp_path_factory.mktemp('robot'))
        settings = {
            'perception': {'robot': str(cameras.profile), 'checkpoint': 'none'},
            'world_model': {'mode': 'fdm', 'observation_timeout_s': 120.0, 'checkpoint': 'none'},
        }
        with Bringup(nodes(simulation=True), node_parameters=settings, log=lambda line: None) as bringup:
            yield listener, cameras, bringup


@pytest.mark.parametrize('outage_s', [0.5, 5.0])  # shorter and longer than latent_timeout_s
def test_after_a_camera_outage_the_task_goes_on(rig: tuple, outage_s: float) -> None:
    listener, cameras, _ = rig

    def cover(chunk: ActionChunk) -> None:
        begin = to_ns(chunk.header.stamp) + CLOCK.video_ns
        cameras.outage = (begin, begin + round(outage_s * SECOND))

    episode = listener.goes_on_after(cover, chunks=3)
    assert [each.missing for each in listener.latents if each.episode == episode].count(True) == 1


def test_when_a_report_of_executed_actions_is_lost_the_task_goes_on(rig: tuple) -> None:
    listener, _, _ = rig

    def report_too_far(chunk: ActionChunk) -> None:
        """What comes after a lost report: one that is further than perception and world model know."""
        listener.executed.publish(
            ExecutedActions(
                episode=chunk.episode,
                latent_index=chunk.first_latent_index + 1,
                actions=chunk.actions[: 16 * 30],
                video_stamps=[chunk.header.stamp] * 4,
            )
        )

    listener.goes_on_after(report_too_far)


def test_a_reset_while_a_chunk_is_computed_ends_the_task_and_nothing_of_it_remains(rig: tuple) -> None:
    listener, _, _ = rig
    episode = listener.start_task()
    listener.chunks_of(episode, 1)
    known = len(listener.statuses)
    listener.wait_for(
        lambda: any(each.state == Status.PREDICTING for each in listener.statuses[known:]), 'the next prediction'
    )
    assert listener.graph.call('reset', Trigger).success
    result = listener.finish_task()
    assert (result.outcome, result.message) == ('failed', 'reset')
    following = listener.start_task()
    first = listener.chunks_of(following, 1)[0]
    assert (list(first.observation_indices), list(first.imagined_indices)) == ([0], [])
    assert len([each for each in listener.chunks if each.episode == episode]) == result.chunks
    listener.finish_task()
    listener.assert_arms_held_before(following)


def test_when_perception_is_killed_it_is_started_again_and_the_task_goes_on(rig: tuple) -> None:
    listener, _, bringup = rig
    killed = bringup.pids['perception']

    def kill(chunk: ActionChunk) -> None:
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: bringup.respawns.get('perception') == 1, PATIENCE_S, 'a new start')

    listener.goes_on_after(kill)
    assert bringup.active.is_set()
    assert bringup.pids['perception'] != killed
