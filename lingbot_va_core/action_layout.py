"""Which values of an action vector are joints, grippers and poses, and how values of each kind blend."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.rotations import RotationError, continuous, slerp, unit_quaternions

GRIPPER_CHANNELS = (28, 29)
FIRST_JOINT_CHANNEL = 14


class ActionError(ValueError):
    """Actions that cannot be carried out: of a wrong shape, not finite, or without an orientation."""


@dataclass(frozen=True)
class ActionLayout:
    """Where things are in an action vector [values], which has the order of `RobotProfile.channels`.

    Attributes:
        joints: indices of joints and grippers, in the order of a joint vector, int64 [joints].
        grippers: those of them that are grippers, int64 [grippers].
        poses: indices of poses (x y z, quaternion x y z w), arm by arm, int64 [poses, 7].
    """

    size: int
    joints: np.ndarray
    grippers: np.ndarray
    poses: np.ndarray

    @classmethod
    def from_channels(cls, channels: np.ndarray) -> 'ActionLayout':
        """Read it off the channels of a robot, int64 [values]; a pose is seven channels in a row."""
        channels = np.asarray(channels)
        firsts = np.flatnonzero(np.isin(channels, (0, 7)))
        return cls(
            size=len(channels),
            joints=np.flatnonzero(channels >= FIRST_JOINT_CHANNEL),
            grippers=np.flatnonzero(np.isin(channels, GRIPPER_CHANNELS)),
            poses=firsts[:, None] + np.arange(7),
        )

    def check(self, actions: np.ndarray, previous: np.ndarray | None = None) -> np.ndarray:
        """Return actions [rows, values] as float64, quaternions of length 1 and with signs that never jump.

        Args:
            actions: as predicted; quaternions need not have length 1.
            previous: the action before the first, [values]; it gives the first signs.

        Raises:
            ActionError: wrong shape, values that are not finite, or a quaternion shorter than 0.001.
        """
        actions = np.array(actions, dtype=np.float64)
        if actions.ndim != 2 or actions.shape[1] != self.size:
            raise ActionError(f'actions have the shape {list(actions.shape)}; they must be [rows, {self.size}]')
        if not np.isfinite(actions).all():
            row, value = np.argwhere(~np.isfinite(actions))[0].tolist()
            raise ActionError(f'value {value} of action {row} is {actions[row, value]}; it must be finite')
        for pose in self.poses:
            first = () if previous is None else (previous[pose[3:]],)
            try:
                actions[:, pose[3:]] = continuous(unit_quaternions(actions[:, pose[3:]]), *first)
            except RotationError as error:
                raise ActionError(f'values {pose[3]} to {pose[6]} of the actions: {error}') from error
        return actions

    def interpolate(self, before: np.ndarray, after: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        """Blend actions [..., values]: quaternions along the arc, all else along the line; fraction [...], 0 to 1."""
        blend = before + fraction[..., None] * (after - before)
        for pose in self.poses:
            turn = pose[3:]
            blend[..., turn] = slerp(before[..., turn], after[..., turn], fraction)
        return blend

    def crossfade(self, old: np.ndarray, new: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Blend two plans of the same rows [rows, values]: grippers are the new one's, at every weight [rows]."""
        blend = self.interpolate(old, new, weight)
        blend[:, self.grippers] = new[:, self.grippers]
        return blend
