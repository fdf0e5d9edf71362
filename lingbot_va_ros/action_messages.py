"""Action chunks, executed actions and commands, between messages and arrays; what arrives is checked here."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.executed_log import ExecutedFrame
from lingbot_va_core.robot import ACTION_DIM, RobotProfile
from lingbot_va_msgs.msg import ActionChunk, ExecutedActions
from lingbot_va_ros.conversions import MessageError, actions_field, to_duration, to_ns, to_time

# header.frame_id of chunks, where the robot acts by poses and the checkpoint says what they are relative to.
RELATIVE, ABSOLUTE = 'task_start', 'base'
POSES = slice(0, 14)  # channels


class NotFiniteError(MessageError):
    """A value that is no number: who sent it must not be trusted any more."""


@dataclass(frozen=True)
class ChunkActions:
    """An action chunk that fits the robot; times are nanoseconds.

    Attributes:
        start_ns: when its first latent frame begins.
        dt_ns: time per action.
        actions: action vectors, float64 [n, values].
        newest_ns: stamp of the newest observation that entered its context; None if it names none.
    """

    start_ns: int
    dt_ns: int
    actions: np.ndarray
    newest_ns: int | None


def chunk_actions(message: ActionChunk, profile: RobotProfile) -> ChunkActions:
    """Unpack an action chunk for a robot.

    Raises:
        MessageError: length, rates or mask are wrong; the message says which and what is expected.
        NotFiniteError: a value in use is not finite.
    """
    name, rate = f'action chunk {message.chunk}', profile.clock.actions_per_latent
    if message.actions_per_latent != rate:
        raise MessageError(
            f'{name} has {message.actions_per_latent} actions per latent frame; the rates of {profile.name} give {rate}'
        )
    if not message.latent_frames:
        raise MessageError(f'{name} has no latent frame')
    count = message.latent_frames * message.actions_per_latent
    if not count <= ActionChunk.MAX_ACTIONS:
        raise MessageError(f'{name} has {count} actions; at most {ActionChunk.MAX_ACTIONS} are allowed')
    if len(message.actions) != count * ACTION_DIM:
        raise MessageError(
            f'{name} has {len(message.actions)} numbers; {count} actions of {ACTION_DIM} channels need '
            f'{count * ACTION_DIM}'
        )
    if not np.array_equal(message.mask, profile.mask):
        used, expected = (np.flatnonzero(mask).tolist() for mask in (message.mask, profile.mask))
        raise MessageError(f'{name} uses the channels {used}; {profile.name} has {expected}')
    universal = np.frombuffer(message.actions, dtype=np.float32).reshape(count, ACTION_DIM)
    actions = profile.from_universal(universal).astype(np.float64)
    if not np.isfinite(actions).all():
        row, value = np.argwhere(~np.isfinite(actions))[0]
        raise NotFiniteError(f'{name}: action {row} of {profile.value_names[value]} is {actions[row, value]}')
    stamps = [to_ns(stamp) for stamp in message.observation_stamps]
    return ChunkActions(to_ns(message.header.stamp), to_ns(message.dt), actions, max(stamps, default=None))


def pose_frame(relative: bool | None, mask: np.ndarray) -> str:
    """Return what the poses of a checkpoint's chunks are relative to; '' where that is unknown or there are none."""
    if relative is None or not mask[POSES].any():
        return ''
    return RELATIVE if relative else ABSOLUTE


def check_pose_frame(message: ActionChunk, relative: bool) -> None:
    """Raise MessageError where a chunk says that its poses are not relative to what the node takes them for."""
    expected = RELATIVE if relative else ABSOLUTE
    if message.header.frame_id not in ('', expected):
        raise MessageError(
            f"action chunk {message.chunk} has poses in '{message.header.frame_id}', but relative_poses is "
            f'{str(relative).lower()}; set it to {str(not relative).lower()}, as the checkpoint was trained'
        )


def executed_message(
    frame: ExecutedFrame, universal: np.ndarray, episode: int, profile: RobotProfile
) -> ExecutedActions:
    """Pack what was in force during one latent frame, its actions as universal ones [rows, 30]."""
    message = ExecutedActions(
        episode=episode,
        latent_index=frame.latent_index,
        chunk=frame.chunk,
        dt=to_duration(frame.dt_ns),
        mask=profile.mask.tolist(),
        actions=actions_field(universal),
        video_stamps=[to_time(stamp) for stamp in frame.video_stamps],
        limited=frame.limited,
        held=frame.held,
    )
    message.header.stamp = to_time(frame.begin_ns)
    return message
