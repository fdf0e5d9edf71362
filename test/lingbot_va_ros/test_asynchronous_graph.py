"""The whole graph in the asynchronous modes: prediction goes on beside the motion, which does not stop for it.

On a machine that is busy with other things a chunk may be late. What must hold then is tested as well.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from slow_model import slow_model
from slow_robot import slow_robot
from support import Graph

from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, ExecutedActions, LatentFrame, Status
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import to_ns
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.task_client import TaskResult, run_task

SECONDS = 7.0


@dataclass
class Heard:
    """What the graph said during the longest episode of one task."""

    profile: RobotProfile
    result: TaskResult
    chunks: list[ActionChunk]
    latents: list[LatentFrame]
    executed: list[ExecutedActions]
    commands: list[DualArmCommand]
    statuses: list[Status]

    def end_ns(self, chunk: ActionChunk) -> int:
        """When a chunk's motion was planned to end."""
        return to_ns(chunk.header.stamp) + chunk.latent_frames * self.profile.clock.latent_ns


@pytest.fixture(scope='module', params=['naive', 'fdm'])
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """One task in each mode, of a robot at half the usual rates."""
    robot = slow_robot(tmp_path_factory.mktemp('robot'), 2)
    settings = {
        'world_model': {'mode': request.param, 'lead_ms': 150.0},
        'action': {'max_observation_age_s': 10.0},  # because the rates are lower
    }
    return listen(robot, settings)


def listen(robot: str, settings: dict[str, dict]) -> Heard:
    """Run a task, and return what was said."""
    topics = {
        'chunks': ('action_chunk', ActionChunk, qos.CHUNK),
        'latents': ('latents', LatentFrame, qos.STREAM),
        'executed': ('executed_actions', ExecutedActions, qos.STREAM),
        'commands': ('command', DualArmCommand, qos.COMMAND),
        'statuses': ('status', Status, qos.LATCHED),
    }
    parameters = {'robot': robot, 'checkpoint': 'none'}
    with Graph('listener') as graph:
        messages = {name: graph.collect(*topic) for name, topic in topics.items()}
        with Bringup(nodes(simulation=True), parameters, node_parameters=settings, log=lambda line: None):
            result = run_task('move', SECONDS)
    numbers = [chunk.episode for chunk in messages['chunks']]
    episode = max(numbers, key=numbers.count)
    return Heard(
        load_profile(robot),
        result,
        **{name: [each for each in found if each.episode == episode] for name, found in messages.items()},
    )


def test_the_task_runs_to_its_time_limit(heard: Heard) -> None:
    assert heard.result.outcome == 'time_limit'
    assert heard.result.chunks >= len(heard.chunks) >= 4
    assert {chunk.mode for chunk in heard.chunks} <= {Episode.NAIVE, Episode.FDM}


def test_a_chunk_that_comes_in_time_goes_on_where_the_one_before_ends(heard: Heard) -> None:
    in_time = 0
    for before, after in pairwise(heard.chunks):
        assert after.first_latent_index == before.first_latent_index + before.latent_frames
        gap_ns = to_ns(after.header.stamp) - heard.end_ns(before)
        if after.margin_ms >= 0:
            assert -heard.profile.clock.action_ns // 2 <= gap_ns < heard.profile.clock.latent_ns, (
                'more than the control loop was held up'
            )
            in_time += 1
        else:
            assert gap_ns > 0
    assert in_time >= 2


def test_prediction_overlaps_execution(heard: Heard) -> None:
    begun = [to_ns(each.header.stamp) for each in heard.statuses if each.state == Status.PREDICTING]
    overlaps = [
        any(to_ns(chunk.header.stamp) < stamp < heard.end_ns(chunk) for stamp in begun) for chunk in heard.chunks[1:-1]
    ]
    assert sum(overlaps) >= 2


def test_the_context_is_real_as_far_as_it_is_known_and_stood_in_for_up_to_the_chunk(heard: Heard) -> None:
    latents = {message.index: message for message in heard.latents}
    real = 0
    for chunk in heard.chunks:
        for index, stamp in zip(chunk.observation_indices, chunk.observation_stamps, strict=True):
            assert stamp == latents[index].header.stamp
            real = max(real, index + 1)
        if chunk.chunk:
            assert list(chunk.imagined_indices) == list(range(real, chunk.first_latent_index))
            assert 0 < len(chunk.imagined_indices) <= 2


def test_executed_and_observed_frames_follow_each_other(heard: Heard) -> None:
    assert [each.latent_index for each in heard.executed] == list(range(1, len(heard.executed) + 1))
    assert [each.index for each in heard.latents] == list(range(len(heard.latents)))
    assert not any(each.missing for each in heard.latents)
    half_ns = heard.profile.clock.video_ns // 2
    seen = {each.index: each for each in heard.latents}
    for executed in heard.executed[:-2]:
        for asked, given in zip(executed.video_stamps, seen[executed.latent_index].frame_stamps, strict=True):
            assert abs(to_ns(asked) - to_ns(given)) <= half_ns


def test_no_command_is_a_hold_unless_a_chunk_is_late(heard: Heard) -> None:
    period_ns = heard.profile.clock.action_ns
    holds = [to_ns(c.header.stamp) for c in heard.commands if c.action_index == DualArmCommand.HOLD]
    checked = 0
    for before, after in pairwise(heard.chunks[1:]):
        if after.margin_ms >= 0:
            begin, end = to_ns(before.header.stamp) + period_ns, heard.end_ns(after) - 2 * period_ns
            assert not [stamp for stamp in holds if begin < stamp < end]
            checked += 1
    assert checked >= 1


def test_where_inference_cannot_keep_up_motion_is_slow_rather_than_held(tmp_path: Path) -> None:
    checkpoint = slow_model(tmp_path, load_profile('aloha'), 0.5)
    settings = {
        'perception': {'checkpoint': checkpoint},
        'world_model': {'checkpoint': checkpoint, 'late': 'slow', 'lead_ms': 100.0},
        'action': {'max_observation_age_s': 10.0},  # because the motion is slower
    }
    heard = listen('aloha', settings)
    period_ns = heard.profile.clock.action_ns
    slowed = [chunk for chunk in heard.chunks if to_ns(chunk.dt) > period_ns]
    assert len(slowed) >= 2
    assert all(to_ns(chunk.dt) <= 4 * period_ns for chunk in slowed)
    assert min(each.speed for each in heard.statuses) < 1
    assert max(chunk.margin_ms for chunk in slowed[1:]) > 0, 'slow motion did not give the time that was missing'
    last = {each.latent_index: each for each in heard.executed}
    for chunk in slowed[:-2]:
        if executed := last.get(chunk.first_latent_index):
            first, *_, final = map(to_ns, executed.video_stamps)
            slower = to_ns(chunk.dt) / period_ns
            assert final - first > 3 * heard.profile.clock.video_ns * slower - period_ns / 2
    holds = [to_ns(c.header.stamp) for c in heard.commands if c.action_index == DualArmCommand.HOLD]
    in_time = [(a, b) for a, b in pairwise(slowed) if b.chunk == a.chunk + 1 and b.margin_ms >= 0]
    for before, after in in_time:
        begin, end = to_ns(before.header.stamp) + period_ns, to_ns(after.header.stamp) + period_ns
        assert not [stamp for stamp in holds if begin < stamp < end]
