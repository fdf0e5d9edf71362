"""Actions in SI units to about -1..1 and back, by quantiles per channel."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lingbot_va_core.robot import ACTION_DIM, POSE_CHANNELS, RobotProfile

GRIPPERS = (28, 29)
EPSILON = 1e-6
TRAINING_CLIP = 1.5  # outliers beyond the quantiles must not dominate the loss
UNTRAINED_RANGE = 0.25  # rad
UNTRAINED_REACH = 0.05  # m


class NormalizationError(ValueError):
    """Statistics that cannot scale an action."""


@dataclass(frozen=True)
class ActionNormalizer:
    """a' = 2 (a - q01) / (q99 - q01 + 1e-6) - 1 on the used channels; the others are zero on both sides.

    Attributes:
        q01, q99: 1 % and 99 % quantile of each channel in SI units.
        mask: channels in use.
    """

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    mask: tuple[bool, ...]

    def __post_init__(self) -> None:
        for name in ('q01', 'q99', 'mask'):
            if len(getattr(self, name)) != ACTION_DIM:
                raise NormalizationError(f'{name} has {len(getattr(self, name))} values; it must have {ACTION_DIM}')
        if not any(self.mask):
            raise NormalizationError('mask uses no channel; name at least one')
        for channel in np.flatnonzero(self.mask):
            low, high = self.q01[channel], self.q99[channel]
            if not (np.isfinite(low) and np.isfinite(high) and low <= high):
                raise NormalizationError(
                    f'channel {channel}: q01 {low} and q99 {high} must be finite, the first not above the second'
                )
        mask = torch.tensor(self.mask)
        low, high = torch.tensor(self.q01, dtype=torch.float64), torch.tensor(self.q99, dtype=torch.float64)
        object.__setattr__(self, '_used', mask)
        object.__setattr__(self, '_low', torch.where(mask, low, 0.0).float())
        object.__setattr__(self, '_span', torch.where(mask, high - low + EPSILON, 1.0).float())

    @classmethod
    def from_profile(cls, profile: RobotProfile, joint_range: float = UNTRAINED_RANGE) -> 'ActionNormalizer':
        """Statistics for a model that has seen no data: +-joint_range around home, within the joint's limits.

        An untrained model then moves its arms visibly but gently around home. Grippers have their full range. Poses of
        end effectors, relative to the first of the episode, have +-5 cm and +-joint_range about each axis.
        """
        q01, q99 = [0.0] * ACTION_DIM, [0.0] * ACTION_DIM
        reach, sine = UNTRAINED_REACH, math.sin(joint_range / 2)
        for arm in profile.arms:
            if arm.pose_in_action:
                pose = slice(POSE_CHANNELS[arm.side][0], POSE_CHANNELS[arm.side][-1] + 1)
                q01[pose] = [-reach] * 3 + [-sine] * 3 + [math.cos(joint_range / 2)]
                q99[pose] = [reach] * 3 + [sine] * 3 + [1.0]
        for joint in profile.joints:
            if joint.channel is None:
                continue
            low, high = joint.lower, joint.upper
            if joint.channel not in GRIPPERS:
                low, high = max(low, joint.home - joint_range), min(high, joint.home + joint_range)
            q01[joint.channel], q99[joint.channel] = low, high
        return cls(tuple(q01), tuple(q99), tuple(profile.mask.tolist()))

    def used(self, device: torch.device | str = 'cpu') -> Tensor:
        """The mask as bool [30]."""
        return self._used.to(device)

    def normalize(self, actions: Tensor, clip: float | None = None) -> Tensor:
        """Map SI actions [..., 30] to normalised ones of the same shape, limited to +-clip (training: TRAINING_CLIP).

        What a robot really did is never clipped: without `clip`, `denormalize` returns it.
        """
        low, span, used = (t.to(actions.device) for t in (self._low, self._span, self._used))
        normalized = torch.where(used, 2.0 * (actions - low) / span - 1.0, 0.0)
        return normalized if clip is None else normalized.clamp(-clip, clip)

    def denormalize(self, actions: Tensor) -> Tensor:
        """Map normalised actions [..., 30] to SI units, the exact inverse of `normalize` without a clip."""
        low, span, used = (t.to(actions.device) for t in (self._low, self._span, self._used))
        return torch.where(used, (actions + 1.0) / 2.0 * span + low, 0.0)

    def to_dict(self) -> dict:
        """Return the JSON form."""
        return {'q01': list(self.q01), 'q99': list(self.q99), 'mask': list(self.mask)}

    @classmethod
    def from_dict(cls, document: object) -> 'ActionNormalizer':
        """Read the JSON form; raises NormalizationError."""
        if not isinstance(document, dict) or set(document) != {'q01', 'q99', 'mask'}:
            raise NormalizationError(f'normalization must be a mapping with q01, q99 and mask, not {document!r:.80}')
        for name, kind in (('q01', (int, float)), ('q99', (int, float)), ('mask', bool)):
            values = document[name]
            if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
                raise NormalizationError(f'{name} is {values!r:.80}; it must be a list of {ACTION_DIM} values')
        return cls(tuple(map(float, document['q01'])), tuple(map(float, document['q99'])), tuple(document['mask']))
