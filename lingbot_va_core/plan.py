"""Actions in the order of motion time, as arrays."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.action_layout import ActionLayout

ACTION = 0
START = 1  # where motion begins after a hold: the arms are there, and no action is due
SEAM = 2  # where one plan was exchanged for another in mid-motion: no action is due


@dataclass(frozen=True)
class Plan:
    """Points that the arms pass, one row each.

    Attributes:
        due: motion time, int64 [rows], increasing.
        values: action vectors, float64 [rows, values].
        progress: actions since the beginning of latent frame 0, this one included, float64 [rows]; a whole number
            unless a seam is in the midst of an action.
        chunks: int64 [rows].
        indices: place in the chunk, int64 [rows].
        kinds: ACTION, START or SEAM, int64 [rows].
    """

    due: np.ndarray
    values: np.ndarray
    progress: np.ndarray
    chunks: np.ndarray
    indices: np.ndarray
    kinds: np.ndarray

    @classmethod
    def empty(cls, width: int) -> 'Plan':
        """Nothing is planned."""
        none = np.empty(0, dtype=np.int64)
        return cls(none, np.empty((0, width)), np.empty(0), none, none, none)

    @classmethod
    def knot(cls, due: int, value: np.ndarray, progress: float, chunk: int, kind: int) -> 'Plan':
        """One start or seam, value [values]."""
        return cls(np.array([due]), value[None], *(np.array([field]) for field in (float(progress), chunk, 0, kind)))

    def __getitem__(self, part: slice) -> 'Plan':
        return Plan(*(field[part] for field in vars(self).values()))

    def __add__(self, other: 'Plan') -> 'Plan':
        return Plan(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))

    def interpolate(self, times: np.ndarray, layout: ActionLayout) -> np.ndarray:
        """Return what is due [n, values] at motion times [n]; before the first and after the last, these."""
        return self._blend(self.due, times, layout)

    def at_progress(self, progress: np.ndarray, layout: ActionLayout) -> np.ndarray:
        """Return the values [n, values] where this much of the motion is done [n]."""
        return self._blend(self.progress, progress, layout)

    def _blend(self, axis: np.ndarray, wanted: np.ndarray, layout: ActionLayout) -> np.ndarray:
        after = np.minimum(np.searchsorted(axis, wanted), len(axis) - 1)
        before = np.maximum(after - 1, 0)
        span = axis[after] - axis[before]
        fraction = np.minimum(np.maximum((wanted - axis[before]) / np.where(span > 0, span, 1), 0.0), 1.0)
        return layout.interpolate(self.values[before], self.values[after], fraction)
