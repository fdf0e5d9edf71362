"""Messages that contradict themselves are refused with the numbers; the others survive the way there and back."""

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.msg import ExecutedActions
from lingbot_va_ros.conversions import (
    MessageError,
    executed_array,
    latent_array,
    latent_message,
    to_duration,
    to_ns,
    to_time,
)

PROFILE = load_profile('aloha')


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_and_durations_survive(ns: int) -> None:
    assert to_ns(to_time(ns)) == ns
    assert to_ns(to_duration(ns)) == ns


def test_a_latent_frame_survives_to_half_precision() -> None:
    latent = np.random.default_rng(0).normal(size=(24, 6, 6)).astype(np.float32)
    message = latent_message(latent, 2, 5, [10, 20, 30, 40], 'model', PROFILE)
    np.testing.assert_array_equal(latent_array(message), latent.astype(np.float16).astype(np.float32))
    assert (message.episode, message.index, to_ns(message.header.stamp)) == (2, 5, 40)
    assert message.cameras == [camera.name for camera in PROFILE.cameras]


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e6])  # 1e6 overflows half precision
def test_a_latent_frame_with_values_that_are_not_finite_is_refused(value: float) -> None:
    latent = np.zeros((24, 6, 6), np.float32)
    latent[3, 2, 1] = value
    with np.errstate(over='ignore'):
        message = latent_message(latent, 1, 0, [1], 'model', PROFILE)
    with pytest.raises(MessageError, match='not finite'):
        latent_array(message)


def test_a_latent_frame_of_the_wrong_length_is_refused() -> None:
    message = latent_message(np.zeros((24, 6, 6), np.float32), 1, 4, [1], 'model', PROFILE)
    message.data = message.data[:-2]
    with pytest.raises(MessageError, match=r'latent frame 4 has 1726 bytes; shape \[24, 6, 6\] needs 1728'):
        latent_array(message)


def test_executed_actions_of_the_wrong_length_are_refused() -> None:
    stamps = [to_time(k * PROFILE.clock.video_ns) for k in range(1, 5)]
    good = ExecutedActions(latent_index=3, actions=array.array('f', [0.5] * 480), video_stamps=stamps)
    assert executed_array(good, PROFILE.clock).shape == (16, 30)
    bad = ExecutedActions(latent_index=3, actions=array.array('f', [0.5] * 479), video_stamps=stamps)
    with pytest.raises(MessageError, match='frame 3 has 479 numbers'):
        executed_array(bad, PROFILE.clock)
    good.video_stamps = stamps[:1]
    with pytest.raises(MessageError, match='frame 3 have 1 video stamps; a latent frame has 4'):
        executed_array(good, PROFILE.clock)
