"""The world model node alone: what it refuses, how tasks end, and which chunks it sends to what it is told."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from sample_messages import PROFILE
from slow_robot import slow_robot
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from support import Graph, node_of

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.resources import share_dir
from lingbot_va_core.session import Session
from lingbot_va_msgs.msg import (
    ActionChunk,
    ActionState,
    Episode,
    ExecutedActions,
    LatentFrame,
    PredictionError,
    Status,
)
from lingbot_va_msgs.srv import SetInstruction
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.client_node import ClientNode
from lingbot_va_ros.conversions import actions_field, latent_message, missing_latent_message, to_ns, to_time
from lingbot_va_ros.managed_node import RefusedError
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.task_client import TaskError, TaskResult, run_task
from lingbot_va_ros.world_model_node import WorldModelNode

WORLD_MODEL = [spec for spec in nodes(simulation=True) if spec.name == 'world_model']
CLOCK = PROFILE.clock
PATIENCE_S = 40.0
QUIET = {'log': lambda line: None}


class Stage:
    """Perception and the action node, played by the test; what the node sends is collected."""

    def __init__(self, graph: Graph, client: ClientNode, namespace: str) -> None:
        self.graph, self.client, self._namespace = graph, client, namespace
        self.episodes = graph.collect('episode', Episode, qos.LATCHED)
        self.chunks = graph.collect('action_chunk', ActionChunk, qos.CHUNK)
        self.imagined = graph.collect('imagined', LatentFrame, qos.STREAM)
        self.errors = graph.collect('prediction_error', PredictionError, qos.STREAM)
        self.statuses = graph.collect('status', Status, qos.LATCHED)
        self._latents = graph.node.create_publisher(LatentFrame, 'latents', qos.STREAM)
        self._executed = graph.node.create_publisher(ExecutedActions, 'executed_actions', qos.STREAM)
        self.success = graph.node.create_publisher(Bool, 'task_success', qos.LATCHED)
        self._action_state = graph.node.create_publisher(ActionState, 'action_state', qos.LATCHED)
        self.results: list[TaskResult] = []
        self.refusals: list[str] = []
        self.cancel = threading.Event()
        self._thread: threading.Thread | None = None

    def renew(self) -> None:
        """End what the test before has left."""
        if self._thread:
            self.cancel.set()
            self._thread.join(PATIENCE_S)
            self.wait_for(lambda: self.episodes[-1].episode == 0, 'the end of the episode')
            self._thread = None
        self.arms(ActionState.MOVING)
        self.cancel.clear()
        for heard in (
            self.episodes,
            self.chunks,
            self.imagined,
            self.errors,
            self.statuses,
            self.results,
            self.refusals,
        ):
            heard.clear()

    def wait_for(self, predicate: Callable[[], Any], what: str = '') -> Any:
        """Wait for as long as a busy machine may take."""
        return self.graph.wait_for(predicate, PATIENCE_S, what)

    def start_task(self, instruction: str = 'move', limit_s: float = 60.0) -> int:
        """Run a task in the background and return the number of its episode."""
        known = len(self.episodes)

        def run() -> None:
            try:
                self.results.append(self.run_task(instruction, limit_s, self.client))
            except TaskError as error:
                self.refusals.append(str(error))

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self.wait_for(lambda: self.refusals or any(each.episode for each in self.episodes[known:]), 'the episode')
        assert not self.refusals
        publishers = (self._latents, self._executed)
        self.wait_for(lambda: all(each.get_subscription_count() for each in publishers), 'subscriptions')
        return next(each.episode for each in self.episodes[known:] if each.episode)

    def run_task(self, instruction: str, limit_s: float, client: ClientNode | None = None) -> TaskResult:
        """Run a task to its end."""
        options = {'namespace': self._namespace, 'stop': self.cancel.is_set, 'patience_s': PATIENCE_S}
        return run_task(instruction, limit_s, client=client, **options)

    def result(self) -> TaskResult:
        """Wait for the end of the task."""
        self._thread.join(PATIENCE_S)
        assert self.results, self.refusals
        return self.results[-1]

    def now(self) -> int:
        """Nanoseconds."""
        return self.graph.node.get_clock().now().nanoseconds

    def latent(self, episode: int, index: int, stamp_ns: int | None = None, **changes: Any) -> np.ndarray:
        """Publish a latent frame; return what a receiver reads from it."""
        latent = np.random.default_rng(index).normal(size=(24, 6, 6)).astype(np.float16).astype(np.float32)
        message = latent_message(latent, episode, index, [stamp_ns or self.now()], '', PROFILE)
        for name, value in changes.items():
            setattr(message, name, value)
        self._latents.publish(message)
        return latent

    def missing(self, episode: int, index: int) -> None:
        """Say that a latent frame is missing."""
        self._latents.publish(missing_latent_message(episode, index, self.now(), '', PROFILE))

    def executed(self, episode: int, index: int, actions: np.ndarray, end_ns: int | None = None) -> None:
        """Publish executed actions [16, 30]."""
        message = ExecutedActions(episode=episode, latent_index=index, actions=actions_field(actions))
        end_ns = end_ns or self.now()
        message.video_stamps = [to_time(end_ns - k * CLOCK.video_ns) for k in (3, 2, 1, 0)]
        self._executed.publish(message)

    def arms(self, state: int, reason: str = '') -> None:
        """Say what the arms do."""
        self._action_state.publish(ActionState(state=state, speed=1.0, reason=reason))

    def next_episode(self, last: int) -> Episode:
        """Wait until the episode after `last` is announced, and return the announcement."""
        return self.wait_for(
            lambda: next((each for each in self.episodes if each.episode > last), None), 'another episode'
        )

    def chunk(self, episode: int, number: int) -> ActionChunk:
        """Wait for a chunk."""
        return self.wait_for(
            lambda: next((each for each in self.chunks if (each.episode, each.chunk) == (episode, number)), None),
            f'chunk {number} of episode {episode}',
        )

    def carry_out(self, chunk: ActionChunk, frames: int | None = None) -> None:
        """Report frames of a chunk as executed and observed."""
        rows = np.array(chunk.actions, np.float32).reshape(chunk.latent_frames, -1, 30)
        for i in range(chunk.latent_frames if frames is None else frames):
            self.latent(chunk.episode, chunk.first_latent_index + i)
            self.executed(chunk.episode, chunk.first_latent_index + i, rows[i])


@contextmanager
def active(namespace: str, **parameters: Any) -> Iterator[Stage]:
    """Run an active node. Namespaces keep nodes apart that live at the same time."""
    settings = {'world_model': {'checkpoint': 'none', **parameters}}
    with Graph(namespace=namespace) as graph, ClientNode('client', namespace) as client:
        stage = Stage(graph, client, namespace)
        with Bringup(WORLD_MODEL, {'robot': 'aloha'}, node_parameters=settings, namespace=namespace, **QUIET):
            yield stage
            stage.renew()


@pytest.fixture(scope='module')
def synchronous() -> Iterator[Stage]:
    """A node that waits for the whole of a chunk."""
    with active('synchronous', mode='sync') as stage:
        yield stage


@pytest.fixture
def stage(synchronous: Stage) -> Stage:
    """The same with nothing to do."""
    synchronous.renew()
    return synchronous


@pytest.fixture(scope='module')
def short_tempered() -> Iterator[Stage]:
    """One that waits for nothing long."""
    with active('impatient', mode='sync', latent_timeout_s=0.3, observation_timeout_s=1.0) as stage:
        yield stage


@pytest.fixture
def impatient(short_tempered: Stage) -> Stage:
    """The same with nothing to do."""
    short_tempered.renew()
    return short_tempered


def test_its_chunks_are_those_of_the_session_on_the_same_inputs(stage: Stage) -> None:
    episode = stage.start_task('transfer the cube')
    session = Session(load_model(None, 'tiny', PROFILE, seed=0), 'sync', seed=0)
    session.start('transfer the cube')
    session.observe(0, stage.latent(episode, 0))
    for cycle in range(3):
        stage.wait_for(lambda cycle=cycle: len(stage.chunks) == cycle + 1, f'chunk {cycle}')
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
    stage.wait_for(lambda: stage.chunks)
    chunk = stage.chunks[0]
    observed, start = to_ns(chunk.observation_stamps[0]), to_ns(chunk.header.stamp)
    assert (start - observed) % CLOCK.video_ns == 0
    assert start - observed >= chunk.latency_ms * 1e6
    imagined = stage.wait_for(lambda: stage.imagined)[0]
    assert to_ns(imagined.header.stamp) == start + CLOCK.latent_ns


def test_success_ends_a_task(stage: Stage) -> None:
    stage.start_task()
    stage.success.publish(Bool(data=True))
    assert stage.result().outcome == 'succeeded'
    stage.wait_for(lambda: stage.episodes[-1].episode == 0, 'the end of the episode')


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
        stage.run_task('another', 5.0)


@pytest.mark.parametrize(('instruction', 'limit_s'), [('', 5.0), ('move', 0.0)])
def test_a_goal_without_instruction_or_time_is_refused(stage: Stage, instruction: str, limit_s: float) -> None:
    with pytest.raises(TaskError, match='refused'):
        stage.run_task(instruction, limit_s, stage.client)


def test_the_instruction_can_be_set_before_and_during_a_task(stage: Stage) -> None:
    call = stage.graph.call
    assert call('set_instruction', SetInstruction, SetInstruction.Request(instruction='wave')).success
    assert not call('set_instruction', SetInstruction, SetInstruction.Request(instruction='  ')).success
    stage.start_task('')
    assert next(each.instruction for each in stage.episodes if each.episode) == 'wave'
    reply = call('set_instruction', SetInstruction, SetInstruction.Request(instruction='stop waving'))
    assert 'from its next chunk on' in reply.message
    stage.wait_for(lambda: stage.statuses[-1].instruction == 'stop waving', 'the status')


def test_a_task_without_latents_fails_and_says_why(impatient: Stage) -> None:
    impatient.start_task()
    result = impatient.result()
    assert result.outcome == 'failed'
    assert 'no latent frame came for 1 s' in result.message


@pytest.mark.parametrize(
    ('index', 'changes', 'reason'),
    [
        (0, {'channels': 12}, 'has 1728 bytes; shape'),
        (0, {'height': 4, 'width': 9}, r'shape \[24, 4, 9\]'),
    ],
)
def test_a_latent_that_does_not_fit_ends_the_task(stage: Stage, index: int, changes: dict, reason: str) -> None:
    episode = stage.start_task()
    stage.latent(episode, index, **changes)
    result = stage.result()
    assert result.outcome == 'failed'
    assert re.search(reason, result.message), result.message


def test_an_asynchronous_chunk_is_ready_before_the_motion_ends_and_follows_it_without_a_gap(tmp_path: Path) -> None:
    robot = slow_robot(tmp_path, 4)
    # A machine that is busy for seconds makes a frame late; here nothing is ever lost.
    with active('fdm', mode='fdm', lead_ms=1000.0, latent_timeout_s=60.0, robot=robot) as stage:
        episode = stage.start_task()
        stage.latent(episode, 0)
        first, second = stage.chunk(episode, 0), stage.chunk(episode, 1)
        frame_ns = 4 * CLOCK.latent_ns
        end = to_ns(first.header.stamp) + frame_ns
        assert first.latent_frames == 1
        assert to_ns(second.header.stamp) == end
        assert second.margin_ms > 0
        assert (list(second.observation_indices), list(second.imagined_indices)) == ([], [1])
        # The next one needs what the first chunk led to; the second chunk's motion ends after it was predicted.
        stage.latent(episode, 1, end)
        stage.executed(episode, 1, np.array(first.actions, np.float32).reshape(16, 30), end)
        third = stage.chunk(episode, 2)
        assert to_ns(third.header.stamp) == end + 2 * frame_ns
        assert (list(third.observation_indices), list(third.imagined_indices)) == ([1], [2, 3])
        assert third.first_latent_index == 4


def test_an_asynchronous_chunk_waits_for_what_it_needs_and_then_begins_on_the_video_clock() -> None:
    with active('naive', mode='naive', latent_timeout_s=60.0) as stage:
        episode = stage.start_task()
        stage.latent(episode, 0)
        first, second = stage.chunk(episode, 0), stage.chunk(episode, 1)
        end = to_ns(second.header.stamp) + 2 * CLOCK.latent_ns
        stage.wait_for(lambda: stage.now() > end + CLOCK.latent_ns)
        assert len(stage.chunks) == 2
        observed = to_ns(first.header.stamp) + CLOCK.latent_ns  # in time, but it is reported late
        stage.latent(episode, 1, observed)
        stage.executed(episode, 1, np.array(first.actions, np.float32).reshape(16, 30), observed)
        third = stage.chunk(episode, 2)
        assert to_ns(third.header.stamp) > end
        assert (to_ns(third.header.stamp) - observed) % CLOCK.video_ns == 0


@pytest.mark.parametrize('cause', ['missing', 'perception restarted', 'not planned'])
def test_what_cannot_go_on_goes_on_in_another_episode_of_the_task(stage: Stage, cause: str) -> None:
    episode = stage.start_task()
    stage.latent(episode, 0)
    chunk = stage.chunk(episode, 0)
    if cause == 'missing':
        stage.missing(episode, 1)
    elif cause == 'perception restarted':
        stage.latent(episode, 0)
    else:
        stage.latent(episode, 5)
    again = stage.next_episode(episode)
    task = next(each.task for each in stage.episodes if each.episode == episode)
    assert (again.episode, again.task, again.instruction) == (episode + 1, task, 'move')
    stage.carry_out(chunk)  # too late
    stage.latent(again.episode, 0)
    first = stage.chunk(again.episode, 0)
    assert (list(first.observation_indices), list(first.imagined_indices), first.first_latent_index) == ([0], [], 1)
    stage.cancel.set()
    result = stage.result()
    assert (result.outcome, result.episode, result.chunks) == ('canceled', episode + 1, 2)


def test_a_report_that_never_comes_restarts_the_context(impatient: Stage) -> None:
    episode = impatient.start_task()
    task = impatient.episodes[-1].task
    impatient.latent(episode, 0)
    impatient.chunk(episode, 0)
    impatient.latent(episode, 1)  # but not what was executed
    assert impatient.next_episode(episode).task == task


def test_a_paused_motion_is_waited_for(impatient: Stage) -> None:
    episode = impatient.start_task()
    impatient.arms(ActionState.PAUSED)
    impatient.latent(episode, 0)
    chunk, begun = impatient.chunk(episode, 0), impatient.now()
    impatient.wait_for(lambda: impatient.now() - begun > 1.8e9)
    assert impatient.episodes[-1].episode == episode
    impatient.arms(ActionState.MOVING)
    impatient.carry_out(chunk)
    impatient.chunk(episode, 1)


def test_a_prediction_error_above_the_limit_makes_the_next_chunk_wait_for_what_is_real() -> None:
    with active('wary', mode='naive', lead_ms=1000.0, latent_timeout_s=60.0, max_prediction_error=1e-3) as stage:
        episode = stage.start_task()
        stage.latent(episode, 0)
        first, second = stage.chunk(episode, 0), stage.chunk(episode, 1)
        stage.carry_out(first)
        error = stage.wait_for(lambda: stage.errors, 'the prediction error')[0]
        assert (error.episode, error.latent_index, error.chunk) == (episode, 1, 0)
        assert error.error > 1e-3
        end = to_ns(second.header.stamp) + 2 * CLOCK.latent_ns
        stage.wait_for(lambda: stage.now() > end)
        assert len(stage.chunks) == 2, 'without a limit, there would be a third one by now'
        stage.carry_out(second)
        third = stage.chunk(episode, 2)
        assert (list(third.observation_indices), list(third.imagined_indices)) == ([1, 2, 3], [])


def test_a_prediction_error_above_the_limit_lets_the_arms_hold_and_the_task_begin_again() -> None:
    settings = {'max_prediction_error': 1e-3, 'on_prediction_error': 'hold'}
    with active('timid', mode='naive', lead_ms=1000.0, latent_timeout_s=60.0, **settings) as stage:
        episode = stage.start_task()
        stage.latent(episode, 0)
        stage.carry_out(stage.chunk(episode, 0))
        again = stage.next_episode(episode)
        assert again.task == stage.episodes[-1].task
        stage.latent(again.episode, 0)
        first = stage.chunk(again.episode, 0)
        assert (list(first.observation_indices), list(first.imagined_indices)) == ([0], [])


@pytest.mark.parametrize('state', [ActionState.FAULT, ActionState.E_STOPPED])
def test_arms_that_were_stopped_end_the_task(stage: Stage, state: int) -> None:
    stage.start_task()
    stage.arms(state, 'somebody pressed the button')
    result = stage.result()
    assert (result.outcome, result.message) == ('failed', 'the arms were stopped: somebody pressed the button')


def test_an_episode_that_ended_while_its_chunk_was_computed_is_not_published(stage: Stage) -> None:
    published: dict[int, int] = {}
    for _ in range(3):
        episode = stage.start_task()
        stage.latent(episode, 0)
        stage.wait_for(
            lambda episode=episode: (episode, Status.PREDICTING) in [(s.episode, s.state) for s in stage.statuses],
            'the prediction',
        )
        assert stage.graph.call('reset', Trigger).success
        published[episode] = stage.result().chunks
    last = stage.start_task()
    assert last == max(published) + 1
    stage.latent(last, 0)
    stage.chunk(last, 0)  # chunks arrive in order
    came = [each.episode for each in stage.chunks]
    assert {episode: came.count(episode) for episode in published} == published


def test_latents_of_another_episode_are_ignored(stage: Stage) -> None:
    episode = stage.start_task()
    stage.latent(episode + 5, 3)
    stage.latent(episode, 0)
    assert stage.wait_for(lambda: stage.chunks)[0].episode == episode


def test_a_mode_that_means_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match="mode is 'sinc'; choose one of sync, naive, fdm"):
        node_of(WorldModelNode, 'robot:=aloha', 'mode:=sinc').__enter__()


def test_a_robot_that_is_unknown_or_whose_clock_does_not_fit_the_model_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / 'slow.yaml'
    text = (share_dir() / 'config' / 'robots' / 'aloha.yaml').read_text()
    profile.write_text(text.replace('control_hz: 50.0', 'control_hz: 25.0'))
    for robot, reason in (('nobody', "robot 'nobody' is unknown"), (profile, '8')):
        with node_of(WorldModelNode, f'robot:={robot}') as node:
            assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        said = capfd.readouterr().err
        assert reason in said
        assert 'Traceback' not in said
