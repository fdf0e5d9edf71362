"""The KV cache of the joint attention: preallocated, in whole frames, read as one contiguous view."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class CacheError(ValueError):
    """A write that the cache cannot hold."""


class Write(Enum):
    """What becomes of the keys and values of a forward."""

    TRANSIENT = 'transient'  # dropped after use
    PREDICTED = 'predicted'  # kept until the real ones come
    CLEAN = 'clean'  # kept until evicted


@dataclass
class Entry:
    """One frame of one stream in slots [start, stop)."""

    stream: str
    frame: int
    kind: Write
    start: int
    stop: int


class KVCache:
    """Keys (already rotated) and values of past frames, `slots` tokens for each layer.

    The valid slots always form one contiguous range, so that attention reads a view. New frames go behind it, the
    oldest frames are evicted in front of it when fewer than the needed slots are left (also for transient writes, as
    the released model does), and when the range reaches the end of the memory, which is a quarter longer than
    `slots`, it is moved to the front: an occasional copy in place of one per forward.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        head_dim: int,
        slots: int,
        device: torch.device | str = 'cpu',
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.slots = slots
        self._capacity = slots + slots // 4
        shape = (layers, batch, heads, self._capacity, head_dim)
        self._keys = torch.empty(shape, device=device, dtype=dtype)
        self._values = torch.empty(shape, device=device, dtype=dtype)
        self._entries: list[Entry] = []

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The frames that are held, oldest first."""
        return tuple(self._entries)

    @property
    def tokens(self) -> int:
        """Slots in use."""
        return self._entries[-1].stop - self._entries[0].start if self._entries else 0

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return self._keys.nbytes + self._values.nbytes

    @contextmanager
    def write(self, stream: str, first: int, frames: int, tokens: int, kind: Write) -> Iterator['Slots']:
        """Reserve slots for one forward over `frames` frames from `first` with `tokens` tokens each.

        The block extends every layer through the yielded `Slots`. An exception in it leaves nothing behind.

        Raises:
            CacheError: the write alone is larger than the cache.
        """
        count = frames * tokens
        if count > self.slots:
            raise CacheError(f'a write of {count} tokens exceeds the {self.slots} slots; raise attn_window')
        while self.tokens + count > self.slots:
            self._entries.pop(0)
        if self._entries and self._entries[-1].stop + count > self._capacity:
            self._pack(0)
        start = self._entries[-1].stop if self._entries else 0
        begin = self._entries[0].start if self._entries else 0
        yield Slots(self._keys, self._values, begin, start, start + count)
        if kind is not Write.TRANSIENT:
            self._entries += [
                Entry(stream, first + i, kind, start + i * tokens, start + (i + 1) * tokens) for i in range(frames)
            ]

    def drop_predicted(self) -> None:
        """Drop every predicted frame."""
        self._entries = [entry for entry in self._entries if entry.kind is not Write.PREDICTED]
        if self._entries:
            self._pack(self._entries[0].start)  # moves nothing while predicted frames are the newest

    def clear(self) -> None:
        """Drop everything."""
        self._entries = []

    def _pack(self, position: int) -> None:
        """Move the frames that are held to one range that begins at `position`."""
        for entry in self._entries:
            size = entry.stop - entry.start
            if entry.start != position:
                for pool in (self._keys, self._values):
                    source = pool[..., entry.start : entry.stop, :]
                    overlap = entry.start < position + size
                    pool[..., position : position + size, :].copy_(source.clone() if overlap else source)
            entry.start, entry.stop = position, position + size
            position += size


@dataclass(frozen=True)
class Slots:
    """The slots [start, stop) of one write; [begin, stop) is what it attends to."""

    keys: Tensor
    values: Tensor
    begin: int
    start: int
    stop: int

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, L, heads, head_dim] of a layer; return views [B, heads, S, head_dim] of all."""
        self.keys[layer, :, :, self.start : self.stop].copy_(key.transpose(1, 2))
        self.values[layer, :, :, self.start : self.stop].copy_(value.transpose(1, 2))
        return self.keys[layer, :, :, self.begin : self.stop], self.values[layer, :, :, self.begin : self.stop]
