"""Imagined latent frames as images while the loop runs: the decoder follows reality and looks ahead from there."""

import numpy as np
from torch import Tensor

from lingbot_va_core.streaming import StreamingDecoder, StreamState

KEPT = 16  # imagined frames, of which some are the past of others


class ImaginedStream:
    """Decodes what is imagined in an episode, as far as somebody wants to see it.

    The causal decoder needs a past: that of an imagined frame is what was really seen, then what was imagined between
    this and the frame. Real frames are decoded for that alone, and only when an imagined one is wanted; then the newest
    real frame is all the past there is, until more have come.
    """

    def __init__(self, decoder: StreamingDecoder) -> None:
        self._decoder = decoder
        self.reset()

    def reset(self) -> None:
        """Begin another episode."""
        self._real: list[tuple[int, Tensor]] = []  # not decoded yet
        self._imagined: dict[int, Tensor] = {}
        self._newest = -1  # real frame that was decoded
        self._past: StreamState = None  # of the decoder, behind that
        self._next: int | None = None  # imagined frame that the decoder is ready for

    def observe(self, index: int, latent: Tensor) -> None:
        """Take a real latent frame [C, h, w]; they come in order."""
        self._real.append((index, latent))
        self._next = None

    def imagine(self, index: int, latent: Tensor, wanted: bool = True) -> list[list[np.ndarray]]:
        """Take an imagined latent frame [C, h, w]; they come in order.

        Returns:
            uint8 RGB images [H, W, 3], `result[time][camera]`: four, one where there is no past, none if not wanted.
        """
        self._imagined[index] = latent
        self._imagined.pop(index - KEPT, None)
        if not wanted:
            self._real, self._past, self._next = self._real[-1:], None, None
            return []
        if index != self._next:
            self._go_back_to_reality(index)
        self._next = index + 1
        return self._decoder.decode(latent[None])

    def _go_back_to_reality(self, index: int) -> None:
        """Bring the decoder to where frame `index` follows."""
        self._decoder.state = self._past
        for number, real in self._real:
            self._decoder.decode(real[None])
            self._newest = number
        self._real.clear()
        self._past = self._decoder.state
        for between in range(self._newest + 1, index):
            if between in self._imagined:
                self._decoder.decode(self._imagined[between][None])
