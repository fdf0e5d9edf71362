"""Quantiles of the actions of a data set, episode by episode."""

import numpy as np

from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.robot import ACTION_DIM

LOW, HIGH = 0.01, 0.99
CAPACITY = 1_000_000  # actions: 5.5 hours at 50 Hz; 56 MB for two arms of six joints


class ActionStatistics:
    """Collects actions and gives the normaliser that fits them.

    The quantiles are exact (linear interpolation between neighbours) while no more than `capacity` actions were added.
    From then on they are those of a uniform sample of that size without replacement (algorithm R of J. S. Vitter,
    Random sampling with a reservoir, 1985). For the million of the default, the rank of a quantile is then off by
    sqrt(0.01 * 0.99 / 1e6), 0.01 % of all actions, in one standard deviation. The same data in the same order and the
    same seed give the same result.

    Args:
        mask: channels in use, bool [30]; the others are not looked at.
        capacity: actions that are kept, float32.
        seed: of the sample.

    Raises:
        NormalizationError: the mask has another size or no channel, or the capacity is not positive.
    """

    def __init__(self, mask: np.ndarray, capacity: int = CAPACITY, seed: int = 0) -> None:
        self._mask = np.asarray(mask, dtype=bool)
        if self._mask.shape != (ACTION_DIM,) or not self._mask.any():
            raise NormalizationError(f'mask is {self._mask.tolist()}; it must have {ACTION_DIM} values, not all false')
        if capacity < 1:
            raise NormalizationError(f'capacity is {capacity}; it must be at least 1')
        self.count = 0
        self._capacity = capacity
        self._random = np.random.default_rng(seed)
        self._kept = np.empty((0, int(self._mask.sum())), np.float32)  # grows by doubling

    def add(self, actions: np.ndarray) -> None:
        """Take the actions of an episode, [..., 30], as they will be normalised: SI units, poses relative.

        Raises:
            NormalizationError: another shape, or a value in use is not finite; nothing of the episode is then taken.
        """
        actions = np.asarray(actions)
        if actions.ndim == 0 or actions.shape[-1] != ACTION_DIM:
            raise NormalizationError(f'actions have the shape {actions.shape}; the last axis must be {ACTION_DIM}')
        rows = actions.reshape(-1, ACTION_DIM)[:, self._mask].astype(np.float32)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            channel = np.flatnonzero(self._mask)[column]
            raise NormalizationError(f'action {row}: channel {channel} is {rows[row, column]}; it must be finite')
        room = max(self._capacity - self.count, 0)
        if room:
            self._append(rows[:room])
        late = rows[room:]
        places = self._random.integers(0, np.arange(self.count, self.count + len(late)) + 1)
        chosen = places < self._capacity
        self._kept[places[chosen]] = late[chosen]  # where a place is drawn twice, the later action stays
        self.count += len(late)

    def normalizer(self, min_range: float | np.ndarray = 0.0) -> ActionNormalizer:
        """Return the normaliser from the 1 % and 99 % quantiles of what was added.

        Args:
            min_range: least distance of the two, in SI units, for all channels or for each, [30]. A smaller one grows
                to it about its middle, so that the noise of a channel that hardly moves is not blown up to full scale.
                The default leaves the quantiles as they are, as the released statistics do.

        Raises:
            NormalizationError: nothing was added, or a range is negative or not finite.
        """
        if not self.count:
            raise NormalizationError('there are no actions to take quantiles of; add at least one')
        least = np.broadcast_to(np.asarray(min_range, dtype=np.float64), (ACTION_DIM,))[self._mask]
        if not (np.isfinite(least) & (least >= 0)).all():
            raise NormalizationError(f'min_range is {min_range}; it must be finite and not negative')
        used = self._kept[: min(self.count, self._capacity)]
        low, high = np.quantile(used, (LOW, HIGH), axis=0).astype(np.float64)
        grow = np.maximum(least - (high - low), 0.0) / 2
        q01, q99 = np.zeros(ACTION_DIM), np.zeros(ACTION_DIM)
        q01[self._mask], q99[self._mask] = low - grow, high + grow
        return ActionNormalizer(tuple(q01.tolist()), tuple(q99.tolist()), tuple(self._mask.tolist()))

    def _append(self, rows: np.ndarray) -> None:
        needed = self.count + len(rows)
        if needed > len(self._kept):
            size = min(max(needed, 2 * len(self._kept)), self._capacity)
            grown = np.empty((size, rows.shape[1]), np.float32)
            grown[: self.count] = self._kept[: self.count]
            self._kept = grown
        self._kept[self.count : needed] = rows
        self.count = needed
