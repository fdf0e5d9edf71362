"""The whole graph on the simulated robot: images in, trajectories out, and what happens when a part of it dies."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from action_stage import motion
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, JointState
from support import Graph
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, ExecutedActions, LatentFrame
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import to_ns
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.task_client import TaskResult, run_task

PROFILE = load_profile('aloha')
CLOCK = PROFILE.clock
EXCESS = 1e-5  # float32 in DualArmCommand


def listen(graph: Graph) -> SimpleNamespace:
    """Collect everything that the tests look at."""
    topics = {
        'images': (PROFILE.cameras[0].image_topic, Image, qos.SENSOR),
        'joints': (PROFILE.joint_states_topic, JointState, qos.SENSOR),
        'left': (PROFILE.arms[0].output.topic, JointTrajectory, qos.COMMAND),
        'right': (PROFILE.arms[1].output.topic, JointTrajectory, qos.COMMAND),
        'episodes': ('episode', Episode, qos.LATCHED),
        'latents': ('latents', LatentFrame, qos.STREAM),
        'imagined': ('imagined', LatentFrame, qos.STREAM),
        'chunks': ('action_chunk', ActionChunk, qos.CHUNK),
        'commands': ('command', DualArmCommand, qos.COMMAND),
        'executed': ('executed_actions', ExecutedActions, qos.STREAM),
        'diagnostics': ('/diagnostics', DiagnosticArray, qos.DIAGNOSTICS),
    }
    return SimpleNamespace(**{name: graph.collect(*topic) for name, topic in topics.items()})


@dataclass
class Rig:
    """The whole graph, in parts that can fail apart, what is heard of it, and the result of its first task."""

    graph: Graph
    heard: SimpleNamespace
    body: Bringup
    brain: Bringup
    lines: list[str]
    result: TaskResult


@pytest.fixture(scope='module')
def rig() -> Iterator[Rig]:
    """A graph that has done a task. The last tests of this file end it, part by part."""
    table, lines = {spec.name: spec for spec in nodes(simulation=True)}, []
    parameters = {'robot': 'aloha', 'mode': 'sync', 'checkpoint': 'none'}
    robot, body, brain = (
        Bringup([table[name] for name in names], parameters, log=lines.append)
        for names in (['sim_bridge'], ['action', 'perception'], ['world_model'])
    )
    with Graph('listener') as graph:
        heard = listen(graph)
        try:
            robot.start()
            # A new subscriber is known after a while only: whatever the action node measures is to be heard here, too.
            graph.wait_for(lambda: heard.joints, 60.0, 'the state of the joints')
            for each in (body, brain):
                each.start()
            for each in (robot, body, brain):
                each.wait_until_active()
            yield Rig(graph, heard, body, brain, lines, run_task('move', 4.0))
        finally:
            for each in (brain, body, robot):
                each.stop()


@pytest.fixture(scope='module')
def run(rig: Rig) -> tuple[SimpleNamespace, TaskResult]:
    """What was heard during the first task, and its result."""
    return SimpleNamespace(**{name: list(messages) for name, messages in vars(rig.heard).items()}), rig.result


def of_episode(messages: list, episode: int = 1) -> list:
    return [message for message in messages if message.episode == episode]


def test_a_task_ends_at_its_time_limit(run: tuple) -> None:
    heard, result = run
    assert result.outcome == 'time_limit'
    assert (result.episode, result.chunks) == (1, len(of_episode(heard.chunks)))
    assert [message.episode for message in heard.episodes][-2:] == [1, 0]


def test_the_head_camera_shows_the_red_cube(run: tuple) -> None:
    heard, _ = run
    for image in (heard.images[0], heard.images[-1]):
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3).astype(int)
        red = (pixels[..., 0] > 120) & (pixels[..., 1:].max(axis=-1) < 60)
        assert 50 < red.sum() < 2000


def test_latent_frames_follow_each_other_and_cover_four_images(run: tuple) -> None:
    heard, _ = run
    latents = of_episode(heard.latents)
    assert len(latents) >= 3
    assert [message.index for message in latents] == list(range(len(latents)))
    assert [len(message.frame_stamps) for message in latents] == [1] + [4] * (len(latents) - 1)
    image_stamps = {to_ns(image.header.stamp) for image in heard.images}
    for message in latents:
        stamps = [to_ns(stamp) for stamp in message.frame_stamps]
        assert set(stamps) <= image_stamps
        assert stamps[-1] == to_ns(message.header.stamp)
        assert not message.imagined


def test_a_chunk_names_the_observations_that_it_came_from(run: tuple) -> None:
    heard, _ = run
    chunks, latents = of_episode(heard.chunks), {message.index: message for message in of_episode(heard.latents)}
    assert len(chunks) >= 2
    seen: list[int] = []
    for number, chunk in enumerate(chunks):
        assert chunk.chunk == number
        for index, stamp in zip(chunk.observation_indices, chunk.observation_stamps, strict=True):
            assert stamp == latents[index].header.stamp
        seen += list(chunk.observation_indices)
        assert chunk.first_latent_index == max(seen) + 1
        assert to_ns(chunk.header.stamp) >= to_ns(latents[max(seen)].header.stamp)
        assert chunk.latency_ms > 0
        assert 'untrained' in chunk.model
    assert seen == list(range(len(seen)))


def test_the_frames_of_a_chunk_are_seen_as_imagined_and_as_real(run: tuple) -> None:
    heard, _ = run
    first = of_episode(heard.chunks)[0]
    imagined = {message.index: message for message in of_episode(heard.imagined)}
    real = {message.index: message for message in of_episode(heard.latents)}
    for index in range(first.first_latent_index, first.first_latent_index + first.latent_frames):
        assert imagined[index].imagined
        # The same instant, unless this machine held up the arms meanwhile.
        apart = to_ns(real[index].header.stamp) - to_ns(imagined[index].header.stamp)
        assert 0 <= apart < CLOCK.latent_ns
        assert imagined[index].data != real[index].data


def test_commands_stay_within_position_velocity_and_acceleration_limits(run: tuple) -> None:
    heard, _ = run
    positions = np.array([PROFILE.from_universal(command.values) for command in heard.commands], dtype=float)
    assert len(positions) > 100
    assert np.all(positions >= PROFILE.limits('lower') - EXCESS)
    assert np.all(positions <= PROFILE.limits('upper') + EXCESS)
    dt = CLOCK.action_ns / 1e9
    velocities, accelerations = motion(heard.commands, PROFILE)
    assert np.all(np.abs(velocities) <= PROFILE.limits('velocity') + EXCESS / dt)
    assert np.all(np.abs(accelerations) <= PROFILE.limits('acceleration') + 2 * EXCESS / dt**2)
    assert np.ptp(positions, axis=0)[:6].max() > 0.02, 'the arms never moved'


def test_both_arms_get_trajectories_that_a_joint_trajectory_controller_accepts(run: tuple) -> None:
    heard, _ = run
    for arm, messages in zip(PROFILE.arms, (heard.left, heard.right), strict=True):
        assert len(messages) > 100
        for message in messages:
            assert list(message.joint_names) == [joint.name for joint in arm.joints]
            times = [to_ns(point.time_from_start) for point in message.points]
            assert times[0] == CLOCK.action_ns
            assert np.all(np.diff(times) > 0)
            assert np.all(np.array(message.points[-1].velocities) == 0)
            assert np.isfinite([point.positions for point in message.points]).all()


def test_the_first_command_is_the_measured_state(run: tuple) -> None:
    heard, _ = run
    first = heard.commands[0]
    assert first.action_index == DualArmCommand.HOLD
    before = [state for state in heard.joints if to_ns(state.header.stamp) <= to_ns(first.header.stamp)]
    assert before, 'commanded before anything was measured'
    measured = [dict(zip(state.name, state.position, strict=True)) for state in before]
    states = np.array([[state[joint.name] for joint in PROFILE.joints] for state in measured])
    assert np.abs(states - PROFILE.from_universal(first.values)).max(axis=1).min() < 1e-6


def test_executed_actions_are_the_commands_on_the_latent_clock(run: tuple) -> None:
    heard, _ = run
    executed = of_episode(heard.executed)
    assert [message.latent_index for message in executed] == list(range(1, len(executed) + 1))
    times = np.array([to_ns(command.header.stamp) for command in heard.commands]) + CLOCK.action_ns
    values = np.array([command.values for command in heard.commands])
    per_video = CLOCK.actions_per_latent // 4
    for message in executed:
        rows = np.array(message.actions).reshape(CLOCK.actions_per_latent, 30)
        for row, stamp in zip(rows[per_video - 1 :: per_video], message.video_stamps, strict=True):
            # Commands are stamped when they are sent, early or late by as much as this machine holds up the node.
            near = values[np.abs(times - to_ns(stamp)) <= 4 * CLOCK.action_ns][:, PROFILE.channels]
            assert (row[PROFILE.channels] >= near.min(axis=0) - 1e-5).all()
            assert (row[PROFILE.channels] <= near.max(axis=0) + 1e-5).all()


def test_nothing_is_commanded_on_channels_that_the_robot_lacks(run: tuple) -> None:
    heard, _ = run
    unused = np.flatnonzero(~PROFILE.mask)
    for command in heard.commands:
        assert list(command.mask) == PROFILE.mask.tolist()
        assert np.all(np.array(command.values)[unused] == 0)


def test_every_node_reports_its_health(run: tuple) -> None:
    heard, _ = run
    statuses = {status.name: status for array in heard.diagnostics for status in array.status}
    assert {name.split()[-1] for name in statuses} == {'sim_bridge', 'action', 'perception', 'world_model'}
    perception = {pair.key: pair.value for pair in statuses['lingbot_va: perception'].values}
    assert int(perception['images_received']) >= 3 * 4 * len(of_episode(heard.latents)) - 9
    assert perception['images_refused'] == '0'


def test_when_the_world_model_is_killed_the_arms_hold_and_the_bring_up_says_so(rig: Rig) -> None:
    heard, brain, known = rig.heard, rig.brain, len(rig.heard.chunks)

    def kill_after_the_second_chunk() -> bool:
        if len(heard.chunks) >= known + 2 and not brain.failed.is_set():
            os.kill(brain.pids['world_model'], signal.SIGKILL)
            brain.failed.wait(5.0)
        return brain.failed.is_set()

    with pytest.raises(RuntimeError):
        run_task('move', 60.0, stop=kill_after_the_second_chunk, patience_s=3.0)
    assert brain.ended.wait(20.0)
    assert (brain.failure.node, brain.failure.returncode) == ('world_model', -signal.SIGKILL)
    assert any('world_model' in line and 'SIGKILL' in line for line in rig.lines)

    # The rest of the last chunk is executed, then the arms come to rest where they are and stay there.
    def at_rest() -> bool:
        tail = np.array([command.values for command in heard.commands[-25:]])
        return heard.commands[-1].action_index == DualArmCommand.HOLD and np.ptp(tail, axis=0).max() == 0

    rig.graph.wait_for(at_rest, 20.0, 'the arms at rest')
    held, count = np.array(heard.commands[-1].values), len(heard.commands)
    rig.graph.wait_for(lambda: len(heard.commands) > count + 50, 20.0, 'further commands')
    for command in heard.commands[count:]:
        np.testing.assert_array_equal(command.values, held)
    assert not np.all(held[PROFILE.channels] == 0)
    assert rig.body.failure is None


def test_a_dead_action_node_ends_the_graph_and_leaves_trajectories_that_end_at_rest(rig: Rig) -> None:
    os.kill(rig.body.pids['action'], signal.SIGKILL)
    assert rig.body.ended.wait(30.0)
    assert rig.body.failure.node == 'action'
    assert list(rig.heard.left[-1].points[-1].velocities) == [0.0] * len(PROFILE.arms[0].joints)
    assert not any('Traceback' in line for line in rig.lines)
