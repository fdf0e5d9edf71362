"""Limits of joints, where they come from, and the names of those that changed a command."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# As in lingbot_va_msgs/DualArmCommand.
POSITION = 1
VELOCITY = 2
ACCELERATION = 4
WORKSPACE = 8
UNREACHABLE = 16
NAMES = {
    POSITION: 'position',
    VELOCITY: 'velocity',
    ACCELERATION: 'acceleration',
    WORKSPACE: 'workspace',
    UNREACHABLE: 'unreachable',
}


class LimitError(ValueError):
    """Limits that leave a joint no room."""


@dataclass(frozen=True)
class JointLimits:
    """Limits of a joint vector, float64 [joints] each; rad or m, per second, per second squared.

    A limit that is not known is infinite.
    """

    lower: np.ndarray
    upper: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray

    def tightened(self, other: 'JointLimits') -> 'JointLimits':
        """Return the tighter of both for every joint: whichever is added, nothing gets wider."""
        return JointLimits(
            lower=np.maximum(self.lower, other.lower),
            upper=np.minimum(self.upper, other.upper),
            velocity=np.minimum(self.velocity, other.velocity),
            acceleration=np.minimum(self.acceleration, other.acceleration),
        )

    def inset(self, margin: np.ndarray) -> 'JointLimits':
        """Keep a margin [joints] from both position limits."""
        return JointLimits(self.lower + margin, self.upper - margin, self.velocity, self.acceleration)

    def require_room(self, names: Sequence[str]) -> None:
        """Check that every joint can move within finite limits.

        Raises:
            LimitError: one cannot; the message has its name and its limits.
        """
        for i, name in enumerate(names):
            if not -np.inf < self.lower[i] < self.upper[i] < np.inf:
                raise LimitError(
                    f'{name} may move from {self.lower[i]:g} to {self.upper[i]:g}, margins included, which is no '
                    'finite range; compare the profile with the kinematics file'
                )
            for what, value in (('velocity', self.velocity[i]), ('acceleration', self.acceleration[i])):
                if not 0 < value < np.inf:
                    raise LimitError(f'{name} has the {what} limit {value:g}; it must be above 0 and finite')


def describe(limits: int) -> str:
    """Name the limits in a sum of their numbers, as in 'position, velocity'."""
    return ', '.join(name for bit, name in NAMES.items() if limits & bit)
