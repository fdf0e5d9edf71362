"""The statistics that LeRobot keeps of each feature, gathered in bounded memory."""

import numpy as np

QUANTILES = {'q01': 0.01, 'q10': 0.10, 'q50': 0.50, 'q90': 0.90, 'q99': 0.99}
CAPACITY = 200_000
LEVELS = 256


class VectorStatistics:
    """Of vectors [n, d]: extremes, mean and deviation exactly, quantiles from at most `capacity` of them.

    When there are more, every second, every fourth... is kept: evenly spread over the data, the same in every run.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity, self._stride = capacity, 1
        self._kept: list[np.ndarray] = []
        self._count, self._kept_count = 0, 0

    def add(self, rows: np.ndarray) -> None:
        """Take rows [n, d]."""
        rows = np.asarray(rows, dtype=np.float64)
        if not len(rows):
            return
        if not self._count:
            self._low, self._high = rows.min(0), rows.max(0)
            self._mean, self._squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        self._low, self._high = np.minimum(self._low, rows.min(0)), np.maximum(self._high, rows.max(0))
        # Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.
        total, delta = self._count + len(rows), rows.mean(0) - self._mean
        self._squares += ((rows - rows.mean(0)) ** 2).sum(0) + delta**2 * (self._count * len(rows) / total)
        self._mean += delta * (len(rows) / total)
        self._kept.append(rows[-self._count % self._stride :: self._stride].astype(np.float32))
        self._kept_count += len(self._kept[-1])
        self._count = total
        while self._kept_count > self._capacity:
            kept = np.concatenate(self._kept)[::2]
            self._kept, self._kept_count, self._stride = [kept], len(kept), 2 * self._stride

    def result(self) -> dict[str, np.ndarray]:
        """Return min, max, mean, std, count and the quantiles; each [d], `count` [1]."""
        quantiles = np.quantile(np.concatenate(self._kept), list(QUANTILES.values()), axis=0).astype(np.float64)
        return {
            'min': self._low,
            'max': self._high,
            'mean': self._mean,
            'std': np.sqrt(self._squares / self._count),
            'count': np.array([self._count]),
            **dict(zip(QUANTILES, quantiles, strict=True)),
        }


class ImageStatistics:
    """Of the levels of RGB images, as shares of 255: exact for every fourth pixel of every fourth row."""

    def __init__(self, histogram: np.ndarray | None = None, images: int = 0) -> None:
        """Begin with what another one has counted: `histogram` int64 [3, 256]."""
        self.histogram = np.zeros((3, LEVELS), np.int64) if histogram is None else np.asarray(histogram, np.int64)
        self.images = images

    def add(self, image: np.ndarray) -> None:
        """Take a uint8 image [height, width, 3]."""
        for channel in range(3):
            self.histogram[channel] += np.bincount(image[::4, ::4, channel].ravel(), minlength=LEVELS)
        self.images += 1

    def merge(self, other: 'ImageStatistics') -> None:
        """Take the images of another one."""
        self.histogram = self.histogram + other.histogram
        self.images += other.images

    def result(self) -> dict[str, np.ndarray]:
        """Return the same as for vectors; each [3, 1, 1], `count` [1] in images."""
        levels = np.arange(LEVELS) / (LEVELS - 1)
        share = self.histogram / self.histogram.sum(1, keepdims=True)
        below = np.cumsum(share, axis=1)
        mean = share @ levels
        occupied = [levels[row > 0] for row in self.histogram]
        values = {
            'min': np.array([row[0] for row in occupied]),
            'max': np.array([row[-1] for row in occupied]),
            'mean': mean,
            'std': np.sqrt(np.maximum(share @ levels**2 - mean**2, 0)),
            **{name: levels[(below < q - 1e-12).sum(1)] for name, q in QUANTILES.items()},
        }
        return {name: value[:, None, None] for name, value in values.items()} | {'count': np.array([self.images])}
