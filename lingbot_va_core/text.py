"""Text encoders: an instruction as a fixed number of embedding rows."""

import hashlib
import html
import re
from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

SHOWN_PROMPTS = 8  # in an error message


class TextError(ValueError):
    """An instruction that cannot be encoded."""


class TextEncoder(Protocol):
    """Encodes an instruction; rows past its end are zero and are attended to like the others."""

    length: int
    dim: int

    def encode(self, instruction: str) -> Tensor:
        """Return float32 [length, dim] on the CPU; raises TextError."""
        ...


def clean(instruction: str) -> str:
    """Repair encoding errors, resolve HTML entities and collapse white space, as the released code does."""
    if not instruction.isascii():
        import ftfy

        instruction = ftfy.fix_text(instruction)
    return ' '.join(html.unescape(html.unescape(instruction)).split())


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


class KnownPrompts:
    """Looks an instruction up in a table, and asks an encoder only for what is not there.

    The table travels with a checkpoint, so that a robot needs no text encoder for the instructions it was trained on.

    Attributes:
        table: cleaned instruction to its rows [n, dim], n <= length; the rows past n are zero and are not stored.
    """

    def __init__(self, table: Mapping[str, Tensor], encoder: TextEncoder) -> None:
        self.length, self.dim, self.encoder = encoder.length, encoder.dim, encoder
        self.table = dict(table)
        for prompt, rows in self.table.items():
            if rows.ndim != 2 or rows.shape[0] > self.length or rows.shape[1] != self.dim:
                raise TextError(
                    f"the embedding of '{prompt}' is {list(rows.shape)}; it must be [up to {self.length}, {self.dim}]"
                )

    def encode(self, instruction: str) -> Tensor:
        """See `TextEncoder.encode`; raises TextError with the known instructions where there is no encoder."""
        rows = self.table.get(clean(instruction))
        if rows is not None:
            padded = torch.zeros(self.length, self.dim)
            padded[: len(rows)] = rows
            return padded
        try:
            return self.encoder.encode(instruction)
        except TextError as error:
            known = [f"'{prompt}'" for prompt in self.table if prompt]
            shown = ', '.join(known[:SHOWN_PROMPTS]) + f' and {len(known) - SHOWN_PROMPTS} more' * (
                len(known) > SHOWN_PROMPTS
            )
            raise TextError(f"'{instruction}' is none of the known instructions ({shown}), and {error}") from error


def remember(encoder: TextEncoder, instructions: Iterable[str]) -> KnownPrompts:
    """Encode instructions and the empty one, which guidance needs, into a table that then travels with the model.

    Raises:
        TextError: see `TextEncoder.encode`.
    """
    table, asked = (encoder.table, encoder.encoder) if isinstance(encoder, KnownPrompts) else ({}, encoder)
    fresh = {clean(instruction): encoder.encode(instruction) for instruction in (*instructions, '')}
    return KnownPrompts({**table, **{prompt: _trim(rows) for prompt, rows in fresh.items()}}, asked)


def _trim(rows: Tensor) -> Tensor:
    """Drop the zero rows at the end."""
    filled = rows.any(dim=1).nonzero()
    return rows[: int(filled.max()) + 1 if len(filled) else 0].clone()
