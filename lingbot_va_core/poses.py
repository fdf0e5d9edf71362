"""End-effector poses in universal actions: relative to the first pose of the episode, and back.

A relative pose is (p - p0, R0^-1 R): the way from the first position along the axes of the base, and the turn since the
first orientation as seen by the tool. Quaternions leave here with length 1 and a sign that does not jump in time.
"""

import numpy as np

from lingbot_va_core.robot import ACTION_DIM, POSE_CHANNELS
from lingbot_va_core.rotations import IDENTITY, RotationError, continuous, inverse, multiply, unit_quaternions


class PoseError(ValueError):
    """Actions whose channels hold no poses."""


def pose_channels(mask: np.ndarray) -> np.ndarray:
    """Channels of the poses that a robot uses, int64 [poses, 7], from the mask of its channels, bool [30].

    Raises:
        PoseError: the mask has a part of a pose only; its channels then hold something else.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != (ACTION_DIM,):
        raise PoseError(f'the mask has the shape {mask.shape}; it must be ({ACTION_DIM},)')
    for channels in POSE_CHANNELS.values():
        used = [channel for channel in channels if mask[channel]]
        if used and len(used) < len(channels):
            raise PoseError(f'the mask has only {used} of {list(channels)}, which are one pose; use all or none')
    return np.array([c for c in POSE_CHANNELS.values() if mask[c[0]]], dtype=np.int64).reshape(-1, 7)


def relative_actions(
    actions: np.ndarray, mask: np.ndarray, origin: np.ndarray, previous: np.ndarray | None = None
) -> np.ndarray:
    """Make the poses in actions [..., T, 30] relative to those in `origin`; other channels stay as they are.

    Args:
        actions: absolute poses in SI units, in the order of time.
        mask: channels in use, bool [30]; the others are never read, and zero in the result.
        origin: [..., 30], the first action of the episode, with absolute poses.
        previous: [..., 30], the action before the first one as this function returned it, when a trajectory comes in
            pieces; its quaternions give the sign.

    Returns:
        float64 [..., T, 30].

    Raises:
        PoseError: a pose in use is not finite or has no orientation, or the mask has a part of a pose.
    """
    return _change(actions, mask, origin, previous, backward=False)


def absolute_actions(
    actions: np.ndarray, mask: np.ndarray, origin: np.ndarray, previous: np.ndarray | None = None
) -> np.ndarray:
    """Undo `relative_actions`, with the same arguments. Predicted quaternions need not have length 1."""
    return _change(actions, mask, origin, previous, backward=True)


def _change(
    actions: np.ndarray, mask: np.ndarray, origin: np.ndarray, previous: np.ndarray | None, backward: bool
) -> np.ndarray:
    channels = pose_channels(mask)
    result = np.where(mask, _universal('actions', actions), 0.0)
    if result.ndim < 2:
        raise PoseError(f'actions has the shape {result.shape}; it must be [..., T, {ACTION_DIM}]')
    if not channels.size:
        return result
    position, rotation = _poses('actions', result, channels)
    first_position, first_rotation = _poses('origin', np.expand_dims(origin, -2), channels)
    if backward:
        position, rotation = first_position + position, multiply(first_rotation, rotation)
    else:
        position, rotation = position - first_position, multiply(inverse(first_rotation), rotation)
    before = IDENTITY if previous is None else _poses('previous', previous, channels)[1]
    rotation = np.swapaxes(continuous(np.swapaxes(rotation, -2, -3), before), -2, -3)
    result[..., channels] = np.concatenate([position, rotation], axis=-1)
    return result


def _poses(name: str, actions: np.ndarray, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [..., poses, 3] and unit quaternions [..., poses, 4] of actions [..., 30]."""
    poses = _universal(name, actions)[..., channels]
    if not np.isfinite(poses).all():
        index = tuple(np.argwhere(~np.isfinite(poses))[0].tolist())
        channel = channels[index[-2], index[-1]]
        raise PoseError(f'{name}: channel {channel} is {poses[index]} at {list(index[:-2])}; it must be finite')
    try:
        return poses[..., :3], unit_quaternions(poses[..., 3:])
    except RotationError as error:
        raise PoseError(f'{name}, poses {channels[:, 0].tolist()}: {error}') from error


def _universal(name: str, actions: np.ndarray) -> np.ndarray:
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim == 0 or actions.shape[-1] != ACTION_DIM:
        raise PoseError(f'{name} has the shape {actions.shape}; the last axis must have {ACTION_DIM} channels')
    return actions
