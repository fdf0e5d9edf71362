"""Poses relative to where a task began, from the chunk through inverse kinematics to the joints, and back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from action_bench import ActionBench, action_bench
from action_stage import CLOCK
from sample_messages import make_chunk
from support import Graph

from lingbot_va_core.kinematics import Kinematics
from lingbot_va_core.robot import RobotProfile, load_profile, profile_path
from lingbot_va_msgs.msg import ExecutedActions
from lingbot_va_ros import qos
from lingbot_va_ros.action_messages import ABSOLUTE
from lingbot_va_ros.conversions import actions_field, to_duration, to_time

ROWS = 16
RISE = 0.03  # m, of the left tool
HERE = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.fixture
def profile(tmp_path: Path) -> RobotProfile:
    """ALOHA, commanded by the poses of its tools and its grippers."""
    document = yaml.safe_load(profile_path('aloha').read_text())
    for arm in document['arms'].values():
        arm['end_effector']['in_action'] = True
        for joint in arm['joints'].values():
            if joint['channel'] < 28:
                del joint['channel']
    (tmp_path / 'posed.yaml').write_text(yaml.safe_dump(document, sort_keys=False))
    return load_profile(str(tmp_path / 'posed.yaml'))


@pytest.fixture
def bench(profile: RobotProfile, tmp_path: Path) -> Iterator[ActionBench]:
    with action_bench(f'robot:={tmp_path / "posed.yaml"}', 'relative_poses:=true') as bench:
        yield bench


def left_tool(bench: ActionBench, kinematics: Kinematics) -> np.ndarray:
    """Pose of the left tool at the last command, in its base frame."""
    return kinematics.arms['left'].pose(bench.node._planner.window.positions[0][kinematics.indices['left']])


def rise(bench: ActionBench, profile: RobotProfile, number: int, heights: np.ndarray) -> None:
    """Send a chunk in which the left tool goes to heights above where its task began, and wait until it is executed."""
    rows = np.tile(np.concatenate([HERE, [0.04], HERE, [0.04]]), (ROWS, 1))
    rows[:, 2] = heights
    chunk = make_chunk(chunk=number, first_latent_index=1, latent_frames=1, dt=to_duration(CLOCK.action_ns),
                       mask=profile.mask.tolist(), actions=actions_field(profile.to_universal(rows)))  # fmt: skip
    chunk.episode = bench.node._episode.episode
    chunk.observation_stamps = [to_time(bench.now_ns)]
    bench.send(chunk, bench.now_ns + CLOCK.action_ns)
    assert bench.node._refusal == ''
    for _ in range(ROWS + 12):
        bench.tick()


def test_poses_are_relative_to_where_the_task_began_and_are_reported_that_way(
    bench: ActionBench, profile: RobotProfile, graph: Graph
) -> None:
    executed = graph.collect('executed_actions', ExecutedActions, qos.STREAM)
    publisher = bench.node._executed_publisher
    graph.wait_for(lambda: publisher.get_subscription_count() == 1, what='the match')
    kinematics = Kinematics.from_profile(profile)
    up = RISE * (1 - np.cos(np.linspace(0, np.pi, ROWS + 1)[1:])) / 2
    began = left_tool(bench, kinematics)

    task = bench.begin()
    rise(bench, profile, 0, up)
    reached = left_tool(bench, kinematics)
    np.testing.assert_allclose(reached - began, [0, 0, RISE, 0, 0, 0, 0], atol=2e-3)
    graph.wait_for(lambda: executed, what='the report')
    report = np.array(executed[0].actions).reshape(ROWS, 30)
    np.testing.assert_allclose(report[-1, :7], [0, 0, RISE, 0, 0, 0, 1], atol=5e-3)
    np.testing.assert_allclose(report[0, :3], 0, atol=5e-3)

    bench.begin(task)  # its context was restarted: the same task, where the robot is now
    rise(bench, profile, 0, np.full(ROWS, RISE))
    np.testing.assert_allclose(left_tool(bench, kinematics), reached, atol=2e-3)

    bench.begin()  # another task begins here
    rise(bench, profile, 0, -up)
    np.testing.assert_allclose(left_tool(bench, kinematics), began, atol=3e-3)


def test_a_task_begins_where_its_first_chunk_finds_arms_that_were_moved_before(
    bench: ActionBench, profile: RobotProfile
) -> None:
    bench.begin()
    bench._measured = elsewhere = bench._measured.copy()
    elsewhere[0] += 0.5
    for _ in range(100):
        bench.tick()
        if bench.counts['gave_way']:
            break
        bench._measured = elsewhere
    rise(bench, profile, 0, np.zeros(ROWS))  # stay
    np.testing.assert_allclose(bench.node._planner.window.positions[0][:6], elsewhere[:6], atol=5e-3)


def test_a_chunk_of_a_checkpoint_with_absolute_poses_does_not_move_the_arms(
    bench: ActionBench, profile: RobotProfile
) -> None:
    bench.begin()
    rows = np.tile(np.concatenate([HERE, [0.04], HERE, [0.04]]), (ROWS, 1))
    chunk = make_chunk(
        first_latent_index=1, mask=profile.mask.tolist(), actions=actions_field(profile.to_universal(rows))
    )
    chunk.episode, chunk.header.frame_id = bench.node._episode.episode, ABSOLUTE
    chunk.observation_stamps = [to_time(bench.now_ns)]
    before = bench.node._planner.window.positions[0].copy()
    bench.send(chunk, bench.now_ns + CLOCK.action_ns)
    bench.tick()
    assert "has poses in 'base', but relative_poses is true" in bench.node._refusal
    np.testing.assert_array_equal(bench.node._planner.window.positions[0], before)
