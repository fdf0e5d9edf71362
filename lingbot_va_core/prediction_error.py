"""How far what was imagined is from what came: the measure of whether predictions can be trusted."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.session import Chunk

SMALLEST = 1e-6  # root mean square of a real frame, below which the error is relative to this


@dataclass(frozen=True)
class PredictionError:
    """One latent frame, imagined against real; both values are relative to the root mean square of the real frame.

    Attributes:
        index: of the latent frame.
        chunk: that imagined it.
        error: root mean square of imagined - real.
        change: that of the real frame before - real: what imagining no motion at all would have given.
    """

    index: int
    chunk: int
    error: float
    change: float


class PredictionErrors:
    """Compares the frames of one episode as they become known, in order, whatever order they come in."""

    def __init__(self) -> None:
        self._imagined: dict[int, tuple[int, np.ndarray]] = {}
        self._real: dict[int, np.ndarray] = {}
        self._next = 1  # frame 0 is given, not imagined

    def imagine(self, chunk: Chunk) -> None:
        """Take what a chunk expects."""
        for i, latent in enumerate(chunk.latents.numpy()):
            self._imagined[chunk.first_latent_index + i] = chunk.index, latent

    def observe(self, index: int, latent: np.ndarray) -> list[PredictionError]:
        """Take a real latent frame [C, h, w], the first of an index; return what can be compared now."""
        if index >= self._next - 1:
            self._real.setdefault(index, latent)
        found = []
        while self._next in self._imagined and self._next in self._real and self._next - 1 in self._real:
            number, imagined = self._imagined.pop(self._next)
            before, real = self._real.pop(self._next - 1), self._real[self._next]
            scale = max(_rms(real), SMALLEST)
            found.append(
                PredictionError(self._next, number, _rms(imagined - real) / scale, _rms(before - real) / scale)
            )
            self._next += 1
        return found


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
