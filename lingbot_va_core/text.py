"""Text encoders: an instruction as a fixed number of embedding rows."""

import hashlib
import re
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class TextEncoder(Protocol):
    """Encodes an instruction; rows past its end are zero and are attended to like the others."""

    length: int
    dim: int

    def encode(self, instruction: str) -> Tensor:
        """Return float32 [length, dim] on the CPU."""
        ...


class HashedTextEncoder:
    """Words as pseudo-random unit-variance vectors derived from their hash, plus a sinusoid of their position.

    Nothing is learned and nothing is stored, so the same text gives the same rows on every machine. Case and
    punctuation are ignored; words past `length` are dropped.
    """

    def __init__(self, dim: int, length: int = 32) -> None:
        self.dim, self.length = dim, length

    def encode(self, instruction: str) -> Tensor:
        """See `TextEncoder.encode`; the empty instruction is all zeros."""
        words = re.findall(r'\w+', instruction.lower())[: self.length]
        rows = np.zeros((self.length, self.dim), dtype=np.float32)
        for position, word in enumerate(words):
            rows[position] = self._word(word) + self._position(position)
        return torch.from_numpy(rows)

    def _word(self, word: str) -> np.ndarray:
        digest = hashlib.shake_128(word.encode()).digest(2 * self.dim)
        uniform = np.frombuffer(digest, dtype='<u2').astype(np.float32) / 65535.0
        return (2.0 * uniform - 1.0) * np.float32(np.sqrt(3.0))  # variance 1

    def _position(self, position: int) -> np.ndarray:
        index = np.arange(self.dim)
        angle = position / 100.0 ** (index // 2 * 2 / self.dim)
        return (0.5 * np.where(index % 2 == 0, np.sin(angle), np.cos(angle))).astype(np.float32)
