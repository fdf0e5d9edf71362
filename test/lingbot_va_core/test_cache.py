"""The KV cache against a plain list of frames."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lingbot_va_core.attention import attend
from lingbot_va_core.cache import EVICTIONS, CacheError, KVCache, Slots, Write

LAYERS, BATCH, HEADS, DIM, SLOTS = 2, 2, 2, 4, 24


def cache(eviction: str = 'frames', spare: int | None = None) -> KVCache:
    return KVCache(LAYERS, BATCH, HEADS, DIM, SLOTS, eviction=eviction, spare=spare)


def noise(seed: int, tokens: int, batch: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, HEADS, DIM, generator=generator)


def extend(slots: Slots, key: Tensor, value: Tensor) -> Tensor:
    """Write all layers, each with values of its own; return what queries equal to the keys get in the last."""
    for layer in range(LAYERS):
        seen = slots.extend(layer, key + layer, value - layer)
    return attend(key, *seen)


@dataclass(frozen=True)
class Frame:
    """One frame of one stream of the list model: keys and values [B, tokens, heads, dim]."""

    stream: str
    index: int
    kind: Write
    key: Tensor
    value: Tensor

    @property
    def tokens(self) -> int:
        return self.key.shape[1]


class ListModel:
    """What the cache must be equivalent to: a list of frames, attended to from scratch."""

    def __init__(self, eviction: str) -> None:
        self.eviction = eviction
        self.held: list[Frame] = []

    def evict(self, count: int) -> bool:
        """Make room; return whether only what was in front of everything that stays has left."""
        before = list(self.held)
        while (excess := sum(frame.tokens for frame in self.held) + count - SLOTS) > 0:
            oldest = self.held.pop(0)
            if self.eviction == 'frames':
                self.held = [frame for frame in self.held if frame.index != oldest.index]
            elif oldest.tokens > excess:
                rest = replace(oldest, key=oldest.key[:, excess:], value=oldest.value[:, excess:])
                self.held.insert(0, rest)
        gone = len(before) - len(self.held)
        return self.eviction == 'released' or all(a is b for a, b in zip(before[gone:], self.held, strict=True))

    def attend(self, past: list[Frame], own: list[Frame]) -> Tensor:
        key, value = (torch.cat([getattr(f, name) for f in past + own], dim=1) for name in ('key', 'value'))
        last = LAYERS - 1
        query = torch.cat([frame.key for frame in own], dim=1)
        return attend(query, (key + last).transpose(1, 2), (value - last).transpose(1, 2))

    def replaceable(self) -> tuple[int, int]:
        """Position and length of the first run of predicted frames that one write can replace."""
        for start, frame in enumerate(self.held):
            if frame.kind is Write.PREDICTED:
                stop = start + 1
                while (
                    stop < len(self.held)
                    and self.held[stop].kind is Write.PREDICTED
                    and self.held[stop].stream == frame.stream
                    and self.held[stop].index == self.held[stop - 1].index + 1
                    and self.held[stop].tokens == frame.tokens
                ):
                    stop += 1
                return start, stop - start
        return 0, 0


WRITES = st.tuples(
    st.sampled_from(['video', 'video', 'action']),  # actions of the frames that the last write was of, if as many
    st.integers(1, 4),
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([Write.TRANSIENT, Write.PREDICTED, Write.PREDICTED, Write.CLEAN]),
)
OPERATIONS = st.one_of(st.sampled_from(['drop', 'replace', 'snapshot', 'rollback', 'rollback', 'fail']), WRITES, WRITES)


@pytest.mark.parametrize('eviction', EVICTIONS)
@settings(max_examples=250, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=30), spare=st.sampled_from([0, 6, 30]))
def test_attention_over_the_cache_equals_recomputing_it(eviction: str, operations: list, spare: int) -> None:
    pool, model = cache(eviction, spare), ListModel(eviction)
    kept, kept_model, index = pool.snapshot(spare), [], 0
    lasts, behind = True, 0  # whether the snapshot must last, tokens kept behind it
    for step, operation in enumerate(operations):
        if operation == 'drop':
            pool.drop_predicted()
            model.held = [frame for frame in model.held if frame.kind is not Write.PREDICTED]
            lasts = False
        elif operation == 'snapshot':
            kept, kept_model = pool.snapshot(spare), list(model.held)
            lasts, behind = True, 0
        elif operation == 'rollback':
            try:
                pool.rollback(kept)
                model.held, behind = list(kept_model), 0
            except CacheError:
                assert not lasts  # its slots were overwritten; then nothing may have changed
        elif operation == 'fail':
            lasts = model.evict(4) and lasts and behind + 4 <= spare
            with pytest.raises(ZeroDivisionError), pool.write('video', index, 2, 2, Write.CLEAN) as slots:
                slots.extend(0, noise(step, 4), noise(step, 4))
                raise ZeroDivisionError
        else:
            position = None
            if operation == 'replace':
                position, frames = model.replaceable()
                if not frames:
                    continue
                lasts = False
                stream, first = model.held[position].stream, model.held[position].index
                tokens, kind = model.held[position].tokens, Write.REPLACE
                if eviction == 'released' and position == 0 and pool.entries[0].stop - pool.entries[0].start != tokens:
                    continue
            else:
                stream, frames, tokens, kind = operation
                first = max(index - frames, 0) if stream == 'action' else index
                lasts = model.evict(frames * tokens) and lasts and behind + frames * tokens <= spare
                index = first + frames
                behind += 0 if kind is Write.TRANSIENT else frames * tokens
            key, value = noise(2 * step, frames * tokens), noise(2 * step + 1, frames * tokens)
            own = [
                Frame(stream, first + i, Write.CLEAN if kind is Write.REPLACE else kind, k, v)
                for i, (k, v) in enumerate(zip(key.split(tokens, 1), value.split(tokens, 1), strict=True))
            ]
            past = model.held if position is None else model.held[:position]
            with pool.write(stream, first, frames, tokens, kind) as slots:
                result = extend(slots, key, value)
            torch.testing.assert_close(result, model.attend(past, own), rtol=1e-5, atol=1e-5)
            if position is not None:
                model.held[position : position + frames] = own
            elif kind is not Write.TRANSIENT:
                model.held += own
        held = [(entry.stream, entry.frame, entry.kind, entry.size) for entry in pool.entries]
        assert held == [(frame.stream, frame.index, frame.kind, frame.tokens) for frame in model.held]
        assert pool.tokens == sum(frame.tokens for frame in model.held) <= SLOTS


def write(
    pool: KVCache, seed: int, frames: int, tokens: int, kind: Write, first: int = 0, stream: str = 'video'
) -> Tensor:
    key, value = noise(seed, frames * tokens), noise(seed + 1, frames * tokens)
    with pool.write(stream, first, frames, tokens, kind) as slots:
        return extend(slots, key, value)


def test_attention_reads_a_view_of_the_pool() -> None:
    pool = cache()
    memory = None
    for step in range(3):
        with pool.write('video', step, 2, 3, Write.CLEAN) as slots:
            seen = slots.extend(0, noise(0, 6), noise(1, 6))
        assert all(view._is_view() for view in seen)
        memory = memory or seen[0].untyped_storage().data_ptr()
        assert seen[0].untyped_storage().data_ptr() == memory


def test_entries_name_stream_and_frame() -> None:
    pool = cache()
    write(pool, 0, 2, 4, Write.PREDICTED, first=7)
    assert [(entry.stream, entry.frame, entry.stop - entry.start) for entry in pool.entries] == [
        ('video', 7, 4),
        ('video', 8, 4),
    ]


def test_the_policies_differ_in_a_frame_that_is_evicted_in_part() -> None:
    left = {}
    for eviction in EVICTIONS:
        pool = cache(eviction)
        for step in range(3):
            write(pool, step, 2, 4, Write.CLEAN, first=2 * step)
        write(pool, 9, 1, 6, Write.TRANSIENT)
        left[eviction] = [(entry.frame, entry.stop - entry.start) for entry in pool.entries]
    assert left == {
        'released': [(1, 2), (2, 4), (3, 4), (4, 4), (5, 4)],
        'frames': [(2, 4), (3, 4), (4, 4), (5, 4)],
    }


@pytest.mark.parametrize(('eviction', 'left'), [('released', [(1, 2), (2, 4), (3, 4)]), ('frames', [(2, 4), (3, 4)])])
def test_trimming_evicts_the_oldest(eviction: str, left: list[tuple[int, int]]) -> None:
    pool = cache(eviction)
    write(pool, 0, 4, 4, Write.CLEAN)
    pool.trim(16)
    assert pool.tokens == 16
    pool.trim(10)
    assert [(entry.frame, entry.stop - entry.start) for entry in pool.entries] == left
    pool.trim(0)
    assert pool.entries == ()


def group(pool: KVCache, first: int, frames: int) -> None:
    """Write frames as the session does: four tokens of video each, then two of actions."""
    write(pool, first, frames, 4, Write.CLEAN, first)
    write(pool, 50 + first, frames, 2, Write.CLEAN, first, 'action')


@pytest.mark.parametrize('groups', [[2, 2], [1, 2, 1], [1, 3], [3, 1], [4], [1, 1, 1, 1]])
def test_video_and_actions_of_a_frame_leave_together(groups: list[int]) -> None:
    left = {}
    for eviction in EVICTIONS:
        pool, first = cache(eviction), 0
        for frames in groups:
            group(pool, first, frames)
            first += frames
        pool.trim(15)
        left[eviction] = [(entry.stream, entry.frame) for entry in pool.entries]
    assert sorted(left['frames']) == [('action', 2), ('action', 3), ('video', 2), ('video', 3)]
    assert left['released'] != left['frames']  # which keeps 15 tokens: of a frame, or actions without their video


def test_what_stays_of_a_group_is_moved_to_the_rest() -> None:
    pool = cache()
    group(pool, 0, 4)
    last = pool.entries[-1]
    pool.trim(23)
    pool.trim(17)
    assert [(entry.stream, entry.frame, entry.start) for entry in pool.entries] == [
        ('video', 2, 12), ('video', 3, 16), ('action', 2, 20), ('action', 3, 22),
    ]  # fmt: skip
    assert pool.entries[-1] == last
    keys = torch.cat([noise(0, 16)[:, 8:], noise(50, 8)[:, 4:]], dim=1).transpose(1, 2)
    assert torch.equal(pool._keys[0, :, :, 12:24], keys)


def test_a_snapshot_is_lost_when_a_group_is_evicted_in_part() -> None:
    pool = cache(spare=24)
    group(pool, 0, 2)
    group(pool, 2, 2)
    snapshot = pool.snapshot(reserve=24)
    write(pool, 90, 3, 4, Write.TRANSIENT, first=4)  # frames 0 and 1, a whole group
    pool.rollback(snapshot)
    write(pool, 90, 1, 4, Write.TRANSIENT, first=4)  # frame 0
    with pytest.raises(CacheError, match='the snapshot is lost'):
        pool.rollback(snapshot)


def test_real_frames_take_the_slots_of_predicted_ones() -> None:
    pool = cache()
    write(pool, 0, 1, 4, Write.CLEAN)
    for first in (1, 2, 3):
        write(pool, first, 1, 4, Write.PREDICTED, first=first)
    before = pool.entries
    write(pool, 50, 2, 4, Write.REPLACE, first=1)
    assert [(e.frame, e.start, e.stop) for e in pool.entries] == [(e.frame, e.start, e.stop) for e in before]
    assert [entry.kind for entry in pool.entries] == [Write.CLEAN] * 3 + [Write.PREDICTED]


@pytest.mark.parametrize(('first', 'frames', 'tokens'), [(0, 1, 4), (3, 2, 4), (2, 1, 3)])
def test_only_predicted_frames_of_the_same_size_are_replaced(first: int, frames: int, tokens: int) -> None:
    pool = cache()
    write(pool, 0, 1, 4, Write.CLEAN)
    write(pool, 1, 3, 4, Write.PREDICTED, first=1)
    with pytest.raises(CacheError, match=f'video frames {first} to {first + frames - 1} with {tokens} tokens'):
        write(pool, 5, frames, tokens, Write.REPLACE, first=first)


def test_a_failed_replacement_drops_what_it_was_to_replace() -> None:
    pool = cache()
    write(pool, 0, 4, 4, Write.PREDICTED)
    with pytest.raises(ZeroDivisionError), pool.write('video', 1, 2, 4, Write.REPLACE):
        raise ZeroDivisionError
    assert [(entry.frame, entry.start) for entry in pool.entries] == [(0, 0), (3, 4)]


def test_a_snapshot_lasts_for_what_it_reserved() -> None:
    pool = cache(spare=8)
    for step in range(8):  # full, and at the end of the memory
        write(pool, step, 1, 4, Write.CLEAN, first=step)
    snapshot = pool.snapshot(reserve=8)
    held = pool.entries
    results = []
    for _ in range(2):
        results.append([write(pool, 20, 1, 4, Write.PREDICTED, first=8), write(pool, 30, 1, 4, Write.TRANSIENT)])
        assert pool.entries[0].frame == 4  # older ones were evicted
        pool.rollback(snapshot)
        assert pool.entries == held
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    with pytest.raises(CacheError, match='9 tokens cannot be reserved behind the 24 that are held'):
        pool.snapshot(reserve=9)


def test_a_snapshot_is_refused_once_its_slots_are_overwritten() -> None:
    pool = cache()
    write(pool, 0, 2, 4, Write.PREDICTED)
    snapshot = pool.snapshot()
    write(pool, 2, 1, 4, Write.REPLACE, first=1)
    held = pool.entries
    with pytest.raises(CacheError, match='the snapshot is lost'):
        pool.rollback(snapshot)
    assert pool.entries == held


def test_a_forward_of_fewer_rows_reads_and_writes_only_these() -> None:
    pool, single = cache(), KVCache(LAYERS, 1, HEADS, DIM, SLOTS)
    for rows, target in ((BATCH, pool), (1, single)):
        with target.write('video', 0, 1, 4, Write.CLEAN, rows) as slots:
            extend(slots, noise(0, 4)[:rows], noise(1, 4)[:rows])
    results = []
    for target in (pool, single):
        with target.write('video', 1, 1, 4, Write.PREDICTED, 1) as slots:
            results.append(extend(slots, noise(2, 4)[:1], noise(3, 4)[:1]))
    assert torch.equal(*results)
    with pytest.raises(CacheError, match='video frame 1 was written for 1 of 2 rows'):
        write(pool, 4, 1, 4, Write.CLEAN, first=2)


def test_a_failed_forward_leaves_no_entry() -> None:
    pool = cache()
    write(pool, 0, 1, 4, Write.CLEAN)
    with pytest.raises(ZeroDivisionError), pool.write('video', 1, 1, 4, Write.CLEAN):
        raise ZeroDivisionError
    assert [entry.frame for entry in pool.entries] == [0]


def test_a_write_larger_than_the_cache_is_refused() -> None:
    with pytest.raises(CacheError, match='25 tokens exceeds the 24 slots'):
        write(cache(), 0, 5, 5, Write.CLEAN)


def test_an_unknown_eviction_is_refused() -> None:
    with pytest.raises(CacheError, match="eviction is 'random'; choose one of released, frames"):
        cache('random')
