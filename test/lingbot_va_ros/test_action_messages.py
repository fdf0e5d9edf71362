"""Action chunks that contradict themselves or the robot are refused with the numbers; the others become actions."""

import array

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sample_messages import make_chunk
from std_msgs.msg import Header

from lingbot_va_core.executed_log import ExecutedFrame
from lingbot_va_core.robot import load_profile
from lingbot_va_ros.action_messages import (
    NotFiniteError,
    check_pose_frame,
    chunk_actions,
    executed_message,
    pose_frame,
)
from lingbot_va_ros.conversions import MessageError, executed_array, to_duration, to_ns

PROFILE = load_profile('aloha')


def test_a_chunk_becomes_joint_vectors_in_the_order_of_the_profile() -> None:
    chunk = chunk_actions(make_chunk(), PROFILE)
    np.testing.assert_allclose(chunk.actions, np.tile(PROFILE.limits('home'), (16, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'actions': array.array('f', [0.0] * 450)}, '450 numbers; 16 actions of 30 channels need 480'),
        ({'latent_frames': 2}, '480 numbers; 32 actions'),
        ({'latent_frames': 0, 'actions': array.array('f')}, 'no latent frame'),
        ({'actions_per_latent': 8}, '8 actions per latent frame; the rates of aloha give 16'),
        ({'latent_frames': 17, 'actions': array.array('f', [0.0] * 7680)}, '272 actions; at most 256'),
        ({'mask': [True] * 30}, 'uses the channels'),
        ({'actions': array.array('f', [float('nan')] * 480)}, 'action 0 of left_waist is nan'),
    ],
)
def test_a_chunk_that_contradicts_itself_or_the_robot_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(MessageError, match=f'action chunk 7.*{message}'):
        chunk_actions(make_chunk(**changes), PROFILE)


def test_a_chunk_names_its_newest_observation_and_its_own_pace() -> None:
    stamps = [Time(sec=3), Time(sec=5, nanosec=7), Time(sec=4)]
    chunk = chunk_actions(make_chunk(observation_stamps=stamps, dt=to_duration(40_000_000)), PROFILE)
    assert (chunk.newest_ns, chunk.dt_ns) == (5_000_000_007, 40_000_000)
    assert chunk_actions(make_chunk(), PROFILE).newest_ns is None


def test_values_outside_the_mask_mean_nothing_and_those_inside_must_be_finite() -> None:
    actions = np.tile(PROFILE.to_universal(PROFILE.limits('home')), (16, 1))
    actions[:, ~PROFILE.mask] = np.nan
    chunk = chunk_actions(make_chunk(actions=array.array('f', actions.tobytes())), PROFILE)
    assert np.isfinite(chunk.actions).all()
    actions[3, 15] = np.inf
    with pytest.raises(NotFiniteError, match='action 3 of left_shoulder is inf'):
        chunk_actions(make_chunk(actions=array.array('f', actions.tobytes())), PROFILE)


def test_a_chunk_whose_poses_are_relative_to_something_else_is_refused() -> None:
    posed = np.arange(30) < 7
    frames = {relative: pose_frame(relative, posed) for relative in (True, False, None)}
    assert frames[None] == pose_frame(True, PROFILE.mask) == ''  # not known; joints alone
    for sent, expected in ((True, True), (False, False), (None, True), (None, False)):
        check_pose_frame(make_chunk(header=Header(frame_id=frames[sent])), expected)
    with pytest.raises(
        MessageError, match="chunk 7 has poses in 'task_start', but relative_poses is false; set it to true"
    ):
        check_pose_frame(make_chunk(header=Header(frame_id=frames[True])), False)
    with pytest.raises(MessageError, match="chunk 7 has poses in 'base', but relative_poses is true; set it to false"):
        check_pose_frame(make_chunk(header=Header(frame_id=frames[False])), True)


def test_executed_frames_survive() -> None:
    rows = np.random.default_rng(0).normal(size=(16, 14))
    frame = ExecutedFrame(5, 2, 10**9, 40_000_000, (1, 2, 3, 4), rows, limited=3, held=1)
    message = executed_message(frame, PROFILE.to_universal(rows), 9, PROFILE)
    assert (message.episode, message.latent_index, message.chunk, message.limited, message.held) == (9, 5, 2, 3, 1)
    assert [to_ns(stamp) for stamp in message.video_stamps] == [1, 2, 3, 4]
    assert (to_ns(message.header.stamp), to_ns(message.dt)) == (10**9, 40_000_000)
    found = PROFILE.from_universal(executed_array(message, PROFILE.clock))
    np.testing.assert_allclose(found, rows, rtol=1e-6)
