"""The KV cache of the joint attention: preallocated, evicted from the front, read as one contiguous view.

`KVCache.snapshot`, `rollback` and `Write.REPLACE` are for callers who branch from one context; the session needs none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

EVICTIONS = ('released', 'frames')


class CacheError(ValueError):
    """A write that the cache cannot hold, or a snapshot that it can no longer return to."""


class Write(Enum):
    """What becomes of the keys and values of a forward."""

    TRANSIENT = 'transient'  # dropped after use
    PREDICTED = 'predicted'  # kept until the real ones come
    CLEAN = 'clean'  # kept until evicted
    REPLACE = 'replace'  # clean, in the slots of the predicted frames that they replace


@dataclass(frozen=True)
class Entry:
    """One frame of one stream in slots [start, stop), valid for the first `rows` of the batch."""

    stream: str
    frame: int
    kind: Write
    start: int
    stop: int
    rows: int

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.stop - self.start


@dataclass(frozen=True)
class Snapshot:
    """What the cache held at one moment: bookkeeping alone, see `KVCache.snapshot`."""

    entries: tuple[Entry, ...]
    version: int


class KVCache:
    """Keys (already rotated) and values of past frames, `slots` tokens for each layer.

    The valid slots always form one contiguous range, oldest first, so that attention reads a view. New frames go
    behind it, and when it reaches the end of the memory, which is `spare` tokens longer than `slots`, it is moved to
    the front: an occasional copy in place of one per forward.

    Where fewer than the needed slots are left, the oldest tokens are evicted in front of the range, also for transient
    writes. 'released' evicts as many tokens as are needed, as the released model does, so that a frame may stay in
    part, or its actions without its video; 'frames' evicts whole latent frames, the video with its actions. Where these
    lie apart, because the group of the frame has others that stay, what stays in front of the gap is moved up to it.
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
        eviction: str = 'released',
        spare: int | None = None,
    ) -> None:
        if eviction not in EVICTIONS:
            raise CacheError(f"eviction is '{eviction}'; choose one of {', '.join(EVICTIONS)}")
        self.slots, self.eviction = slots, eviction
        self._batch = batch
        self._capacity = slots + (slots // 4 if spare is None else spare)
        shape = (layers, batch, heads, self._capacity, head_dim)
        self._keys = torch.empty(shape, device=device, dtype=dtype)
        self._values = torch.empty(shape, device=device, dtype=dtype)
        self._entries: list[Entry] = []
        self._version = 0  # counts up when slots of a snapshot are overwritten
        self._protected = 0  # slots below this belong to a snapshot

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
    def write(
        self, stream: str, first: int, frames: int, tokens: int, kind: Write, rows: int | None = None
    ) -> Iterator['Slots']:
        """Reserve slots for one forward over `frames` frames from `first` with `tokens` tokens each.

        The block extends every layer through the yielded `Slots`. The forward sees everything that is held and its own
        frames; with `Write.REPLACE`, what is held before the replaced frames and its own. An exception in the block
        leaves nothing of the write behind; with `Write.REPLACE`, the predicted frames are lost, too.

        Args:
            stream: 'video' or 'action'.
            first, frames, tokens: what is written.
            kind: what becomes of it.
            rows: leading rows of the batch that the forward computes; None: all.

        Raises:
            CacheError: the write alone is larger than the cache, reads rows that an earlier one has left out, or is to
                replace frames that are not held as predicted ones in one piece.
        """
        count, rows = frames * tokens, self._batch if rows is None else rows
        if kind is Write.REPLACE:
            position = self._find_predicted(stream, first, frames, tokens)
            start = self._entries[position].start
        else:
            start = self._make_room(count)
            position = len(self._entries)
        for entry in self._entries[:position]:
            if entry.rows < rows:
                raise CacheError(
                    f'{entry.stream} frame {entry.frame} was written for {entry.rows} of {rows} rows of the batch; '
                    'write all rows, or drop it first'
                )
        self._overwrite(start)
        begin = self._entries[0].start if self._entries else start
        behind = self._entries[position:][frames:] if kind is Write.REPLACE else []
        try:
            yield Slots(self._keys, self._values, begin, start, start + count, rows)
        except BaseException:
            if kind is Write.REPLACE:
                self._entries[position:] = behind
                self._close_gaps()
            raise
        if kind is not Write.TRANSIENT:
            kept = Write.CLEAN if kind is Write.REPLACE else kind
            self._entries[position:] = [
                Entry(stream, first + i, kept, start + i * tokens, start + (i + 1) * tokens, rows)
                for i in range(frames)
            ] + behind

    def drop_predicted(self) -> None:
        """Drop every predicted frame; what lies behind one is moved, what lies before them all is not."""
        self._entries = [entry for entry in self._entries if entry.kind is not Write.PREDICTED]
        self._close_gaps()

    def clear(self) -> None:
        """Drop everything."""
        self._entries = []

    def trim(self, tokens: int) -> None:
        """Evict the oldest until at most `tokens` are held."""
        excess = self.tokens - tokens
        while excess > 0:
            oldest = self._entries[0]
            if self.eviction == 'frames':
                excess -= sum(entry.size for entry in self._entries if entry.frame == oldest.frame)
                self._entries = [entry for entry in self._entries if entry.frame != oldest.frame]
                continue
            evicted = min(oldest.size, excess)
            self._entries[:1] = [replace(oldest, start=oldest.start + evicted)] if evicted < oldest.size else []
            excess -= evicted
        self._move_up()

    def snapshot(self, reserve: int = 0) -> Snapshot:
        """Remember what is held, without copying any of it, for `rollback`.

        The snapshot lasts while writes go behind what it holds: transient and kept ones, with the evictions that they
        cause. It is lost once its own slots are written to: by `Write.REPLACE`, by a write after its frames were
        dropped, when the range is moved to the front, or when an eviction leaves a gap.

        Args:
            reserve: tokens that can surely be written behind it before the range has to be moved, the largest
                transient write counted once.

        Raises:
            CacheError: the memory is too small to reserve so many.
        """
        if self._end + reserve > self._capacity:
            if self.tokens + reserve > self._capacity:
                raise CacheError(
                    f'{reserve} tokens cannot be reserved behind the {self.tokens} that are held, in a memory of '
                    f'{self._capacity}; give the cache more spare tokens'
                )
            self._move(0)
        self._protected = max(self._protected, self._end)
        return Snapshot(tuple(self._entries), self._version)

    def rollback(self, snapshot: Snapshot) -> None:
        """Hold again what was held at the snapshot, which may be returned to more than once.

        Raises:
            CacheError: its slots have been written to; then nothing changes.
        """
        if snapshot.version != self._version:
            raise CacheError('the snapshot is lost, its slots have been written to; reserve tokens for later writes')
        self._entries = list(snapshot.entries)

    @property
    def _end(self) -> int:
        return self._entries[-1].stop if self._entries else 0

    def _make_room(self, count: int) -> int:
        """Evict until `count` slots are free; return where they begin."""
        if count > self.slots:
            raise CacheError(f'a write of {count} tokens exceeds the {self.slots} slots; raise attn_window')
        self.trim(self.slots - count)
        if self._end + count > self._capacity:
            self._move(0)
        return self._end

    def _find_predicted(self, stream: str, first: int, frames: int, tokens: int) -> int:
        """Return the position of the first of these frames among the entries."""
        wanted = [(stream, first + i, Write.PREDICTED, tokens) for i in range(frames)]
        held = [(entry.stream, entry.frame, entry.kind, entry.size) for entry in self._entries]
        for position in range(len(held) - frames + 1):
            if held[position : position + frames] == wanted:
                return position
        raise CacheError(
            f'{stream} frames {first} to {first + frames - 1} with {tokens} tokens each are not held as predicted ones '
            'side by side; write them as clean ones after drop_predicted'
        )

    def _close_gaps(self) -> None:
        if self._entries:
            self._move(self._entries[0].start)

    def _move(self, position: int) -> None:
        """Move the frames that are held to one range that begins at `position`, at or before the first of them."""
        for i, entry in enumerate(self._entries):
            self._move_entry(i, position)
            position += entry.size

    def _move_up(self) -> None:
        """Close the gaps between the frames that are held by moving those in front of them; the last stays."""
        position = self._end
        for i in reversed(range(len(self._entries))):
            position -= self._entries[i].size
            self._move_entry(i, position)

    def _move_entry(self, i: int, position: int) -> None:
        entry = self._entries[i]
        if entry.start == position:
            return
        self._overwrite(position)
        target = slice(position, position + entry.size)
        for pool in (self._keys, self._values):
            source = pool[..., entry.start : entry.stop, :]
            overlap = abs(entry.start - position) < entry.size
            pool[..., target, :].copy_(source.clone() if overlap else source)
        self._entries[i] = replace(entry, start=target.start, stop=target.stop)

    def _overwrite(self, start: int) -> None:
        """Take note that slots from `start` on are about to be written."""
        if start < self._protected:
            self._version += 1
            self._protected = 0


@dataclass(frozen=True)
class Slots:
    """The slots [start, stop) of one write to the first `rows` of the batch; it attends to [begin, stop)."""

    keys: Tensor
    values: Tensor
    begin: int
    start: int
    stop: int
    rows: int

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values [B, L, heads, head_dim] of a layer; return views [B, heads, S, head_dim] of all."""
        seen = []
        for pool, new in ((self.keys, key), (self.values, value)):
            rows = pool[layer, : self.rows]
            rows[:, :, self.start : self.stop].copy_(new.transpose(1, 2))
            seen.append(rows[:, :, self.begin : self.stop])
        return seen[0], seen[1]
