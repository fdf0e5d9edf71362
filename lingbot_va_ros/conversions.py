"""Between messages and the arrays of the core; what arrives is checked here, before anything uses it."""

import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT, LatentClock
from lingbot_va_core.robot import ACTION_DIM, RobotProfile
from lingbot_va_msgs.msg import ExecutedActions, LatentFrame


class MessageError(ValueError):
    """A message that contradicts itself or the configuration."""


def to_ns(stamp: Time | Duration) -> int:
    """Return a stamp or duration in nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def to_time(ns: int) -> Time:
    """Return nanoseconds as a stamp."""
    sec, nanosec = divmod(ns, NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def to_duration(ns: int) -> Duration:
    """Return nanoseconds as a duration."""
    sec, nanosec = divmod(ns, NANOSECONDS)
    return Duration(sec=sec, nanosec=nanosec)


def latent_message(
    latent: np.ndarray, episode: int, index: int, frame_stamps: Sequence[int], model: str, profile: RobotProfile
) -> LatentFrame:
    """Pack a latent frame, float [C, h, w], and the stamps (ns) of the video frames that it covers."""
    channels, height, width = latent.shape
    message = _latent_message(episode, index, frame_stamps[-1], model, profile)
    message.frame_stamps = [to_time(stamp) for stamp in frame_stamps]
    message.channels, message.height, message.width = channels, height, width
    message.data = array.array('B', latent.astype('<f2').tobytes())
    return message


def missing_latent_message(episode: int, index: int, stamp_ns: int, model: str, profile: RobotProfile) -> LatentFrame:
    """Say that a latent frame could not be encoded; `stamp_ns` is the video frame that lacked an image."""
    message = _latent_message(episode, index, stamp_ns, model, profile)
    message.missing = True
    return message


def _latent_message(episode: int, index: int, stamp_ns: int, model: str, profile: RobotProfile) -> LatentFrame:
    message = LatentFrame(
        episode=episode,
        index=index,
        model=model,
        layout=profile.camera_layout,
        cameras=[camera.name for camera in profile.cameras],
    )
    message.header.stamp = to_time(stamp_ns)
    return message


def latent_array(message: LatentFrame) -> np.ndarray:
    """Unpack a latent frame, float32 [C, h, w].

    Raises:
        MessageError: the data's length does not fit its shape, or a value is not finite.
    """
    shape = (message.channels, message.height, message.width)
    expected = 2 * int(np.prod(shape))
    if len(message.data) != expected:
        raise MessageError(
            f'latent frame {message.index} has {len(message.data)} bytes; shape {list(shape)} needs {expected}'
        )
    latent = np.frombuffer(message.data, dtype='<f2').reshape(shape).astype(np.float32)
    if not np.isfinite(latent).all():
        raise MessageError(f'latent frame {message.index} has values that are not finite')
    return latent


def actions_field(actions: np.ndarray) -> array.array:
    """Flatten actions [..., 30] for a message."""
    return array.array('f', np.ascontiguousarray(actions, dtype=np.float32).tobytes())


def executed_array(message: ExecutedActions, clock: LatentClock) -> np.ndarray:
    """Unpack executed actions, float32 [n, 30].

    Raises:
        MessageError: the number of actions or of video stamps does not fit the clock.
    """
    if len(message.video_stamps) != VIDEO_FRAMES_PER_LATENT:
        raise MessageError(
            f'executed actions of frame {message.latent_index} have {len(message.video_stamps)} video stamps; a latent '
            f'frame has {VIDEO_FRAMES_PER_LATENT}'
        )
    return _actions(f'executed actions of frame {message.latent_index}', message.actions, clock.actions_per_latent)


def _actions(name: str, values: array.array, count: int) -> np.ndarray:
    if len(values) != count * ACTION_DIM:
        raise MessageError(
            f'{name} has {len(values)} numbers; {count} actions of {ACTION_DIM} channels need {count * ACTION_DIM}'
        )
    return np.frombuffer(values, dtype=np.float32).reshape(count, ACTION_DIM)
