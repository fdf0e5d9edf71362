"""The world model node alone: what it refuses, how tasks end, and which chunks it sends to what it is told."""

import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sample_messages import PROFILE
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from support import Graph

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.resources import share_dir
from lingbot_va_core.session import Session
from lingbot_va_msgs.msg import ActionChunk, Episode, ExecutedActions, LatentFrame, Status
from lingbot_va_msgs.srv import SetInstruction
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup, BringupError
from lingbot_va_ros.conversions import actions_field, latent_message, to_ns
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.task_client import TaskError, TaskResult, run_task

WORLD_MODEL = [spec for spec in nodes(simulation=True) if spec.name == 'world_model']
CLOCK = PROFILE.clock
QUIET = {'log': lambda line: None}


class Stage:
    """Perception and the action node, played by the test; what the node sends is collected."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.episodes = graph.collect('episode', Episode, qos.LATCHED)
        self.chunks = graph.collect('action_chunk', ActionChunk, qos.CHUNK)
        self.imagined = graph.collect('imagined', LatentFrame, qos.STREAM)
        self.statuses = graph.collect('status', Status, qos.LATCHED)
        self._latents = graph.node.create_publisher(LatentFrame, 'latents', qos.STREAM)
        self._executed = graph.node.create_publisher(ExecutedActions, 'executed_actions', qos.STREAM)
        self.success = graph.node.create_publisher(Bool, 'task_success', qos.LATCHED)
        self.results: list[TaskResult] = []
        self.errors: list[str] = []
        self.cancel = threading.Event()

    def start_task(self, instruction: str = 'move', limit_s: float = 60.0) -> int:
        """Run a task in the background and return the number of its episode."""
        known = len(self.episodes)

        def run() -> None:
            try:
                self.results.append(run_task(instruction, limit_s, stop=self.cancel.is_set))
            except TaskError as error:
                self.errors.append(str(error))

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self.graph.wait_for(lambda: any(each.episode for each in self.episodes[known:]), what='the episode')
        publishers = (self._latents, self._executed)
        self.graph.wait_for(lambda: all(each.get_subscription_count() for each in publishers), what='subscriptions')
        return next(each.episode for each in self.episodes[known:] if each.episode)

    def result(self) -> TaskResult:
        """Wait for the end of the task."""
        self._thread.join(30.0)
        assert self.results, self.errors
        return self.results[-1]

    def latent(self, episode: int, index: int, **changes: Any) -> np.ndarray:
        """Publish a latent frame; return what a receiver reads from it."""
        latent = np.random.default_rng(index).normal(size=(24, 6, 6)).astype(np.float16).astype(np.float32)
        message = latent_message(latent, episode, index, [self.graph.node.get_clock().now().nanoseconds], '', PROFILE)
        for name, value in changes.items():
            setattr(message, name, value)
        self._latents.publish(message)
        return latent

    def executed(self, episode: int, index: int, actions: np.ndarray) -> None:
        """Publish executed actions [16, 30]."""
        self._executed.publish(ExecutedActions(episode=episode, latent_index=index, actions=actions_field(actions)))


@pytest.fixture
def stage(graph: Graph) -> Iterator[Stage]:
    """An active node."""
    stage = Stage(graph)
    with Bringup(WORLD_MODEL, {'robot': 'aloha'}, **QUIET):
        yield stage
        stage.cancel.set()


def test_its_chunks_are_those_of_the_session_on_the_same_inputs(stage: Stage) -> None:
    episode = stage.start_task('transfer the cube')
    session = Session(load_model(None, 'tiny', PROFILE, seed=0), seed=0)
    session.start('transfer the cube')
    session.observe(0, stage.latent(episode, 0))
    for cycle in range(3):
        stage.graph.wait_for(lambda cycle=cycle: len(stage.chunks) == cycle + 1, what=f'chunk {cycle}')
        expected, message = session.predict(), stage.chunks[-1]
        actions = np.array(message.actions, np.float32).reshape(expected.actions.shape)
        np.testing.assert_array_equal(actions, expected.actions)
        assert tuple(message.observation_indices) == expected.observation_indices
        for i, row in enumerate(expected.actions):
            index = expected.first_latent_index + i
            session.observe(index, stage.latent(episode, index))
            session.executed(index, row * 0.9)
            stage.executed(episode, index, row * 0.9)


def test_a_synchronous_chunk_begins_on_the_video_clock_in_the_near_future(stage: Stage) -> None:
    episode = stage.start_task()
    stage.latent(episode, 0)
    stage.graph.wait_for(lambda: stage.chunks)
    chunk = stage.chunks[0]
    observed, start = to_ns(chunk.observation_stamps[0]), to_ns(chunk.header.stamp)
    assert (start - observed) % CLOCK.video_ns == 0
    assert start - observed >= chunk.latency_ms * 1e6
    imagined = stage.graph.wait_for(lambda: stage.imagined)[0]
    assert to_ns(imagined.header.stamp) == start + CLOCK.latent_ns


def test_success_ends_a_task(stage: Stage) -> None:
    stage.start_task()
    stage.success.publish(Bool(data=True))
    assert stage.result().outcome == 'succeeded'
    stage.graph.wait_for(lambda: stage.episodes[-1].episode == 0, what='the end of the episode')


def test_a_canceled_task_ends(stage: Stage) -> None:
    stage.start_task()
    stage.cancel.set()
    assert stage.result().outcome == 'canceled'


def test_reset_ends_a_task_and_the_next_is_another_episode(stage: Stage) -> None:
    first = stage.start_task()
    assert stage.graph.call('reset', Trigger).success
    result = stage.result()
    assert (result.outcome, result.message) == ('failed', 'reset')
    assert stage.start_task() == first + 1


def test_only_one_task_runs_at_a_time(stage: Stage) -> None:
    stage.start_task()
    with pytest.raises(TaskError, match='refused'):
        run_task('another', 5.0)


@pytest.mark.parametrize(('instruction', 'limit_s'), [('', 5.0), ('move', 0.0)])
def test_a_goal_without_instruction_or_time_is_refused(stage: Stage, instruction: str, limit_s: float) -> None:
    with pytest.raises(TaskError, match='refused'):
        run_task(instruction, limit_s)


def test_the_instruction_can_be_set_before_and_during_a_task(stage: Stage) -> None:
    call = stage.graph.call
    assert call('set_instruction', SetInstruction, SetInstruction.Request(instruction='wave')).success
    assert not call('set_instruction', SetInstruction, SetInstruction.Request(instruction='  ')).success
    stage.start_task('')
    assert next(each.instruction for each in stage.episodes if each.episode) == 'wave'
    reply = call('set_instruction', SetInstruction, SetInstruction.Request(instruction='stop waving'))
    assert 'from its next chunk on' in reply.message
    stage.graph.wait_for(lambda: stage.statuses[-1].instruction == 'stop waving', what='the status')


def test_a_task_without_latents_fails_and_says_why(graph: Graph) -> None:
    stage = Stage(graph)
    settings = {'world_model': {'observation_timeout_s': 0.5}}
    with Bringup(WORLD_MODEL, {'robot': 'aloha'}, node_parameters=settings, **QUIET):
        stage.start_task()
        result = stage.result()
    assert result.outcome == 'failed'
    assert 'no latent frame came for 0.5 s' in result.message


@pytest.mark.parametrize(
    ('index', 'changes', 'reason'),
    [
        (0, {'channels': 12}, 'has 1728 bytes; shape'),
        (0, {'height': 4, 'width': 9}, r'shape \[24, 4, 9\]'),
        (1, {}, '0 is still missing'),
    ],
)
def test_a_latent_that_does_not_fit_ends_the_task(stage: Stage, index: int, changes: dict, reason: str) -> None:
    episode = stage.start_task()
    stage.latent(episode, index, **changes)
    result = stage.result()
    assert result.outcome == 'failed'
    assert re.search(reason, result.message), result.message


def test_latents_of_another_episode_are_ignored(stage: Stage) -> None:
    episode = stage.start_task()
    stage.latent(episode + 5, 3)
    stage.latent(episode, 0)
    assert stage.graph.wait_for(lambda: stage.chunks)[0].episode == episode


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [({'mode': 'sinc'}, "mode is 'sinc'; choose one of sync"), ({'robot': 'nobody'}, "robot 'nobody' is unknown")],
)
def test_it_refuses_parameters_that_mean_nothing(parameters: dict[str, str], reason: str) -> None:
    lines: list[str] = []
    settings = {'world_model': {'robot': 'aloha', **parameters}}
    with pytest.raises(BringupError):
        Bringup(WORLD_MODEL, node_parameters=settings, log=lines.append).__enter__()
    assert any(reason in line for line in lines)
    assert 'Traceback' not in '\n'.join(lines)


def test_a_robot_whose_clock_does_not_fit_the_model_is_refused(tmp_path: Any) -> None:
    profile = tmp_path / 'slow.yaml'
    text = (share_dir() / 'config' / 'robots' / 'aloha.yaml').read_text()
    profile.write_text(text.replace('control_hz: 50.0', 'control_hz: 25.0'))
    lines: list[str] = []
    with pytest.raises(BringupError, match='8'):
        Bringup(WORLD_MODEL, {'robot': str(profile)}, log=lines.append).__enter__()
