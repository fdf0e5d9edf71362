"""The KV cache against a plain list of frames."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.cache import CacheError, KVCache, Write

LAYERS, HEADS, DIM, SLOTS = 2, 2, 3, 24


def cache() -> KVCache:
    return KVCache(LAYERS, 1, HEADS, DIM, SLOTS)


def write(cache: KVCache, value: float, frames: int, tokens: int, kind: Write, first: int = 0) -> torch.Tensor:
    """Write frames that hold value, value + 1, ... and return the values that attention sees."""
    rows = (torch.arange(frames).repeat_interleave(tokens) + value).view(1, -1, 1, 1).expand(1, -1, HEADS, DIM)
    with cache.write('video', first, frames, tokens, kind) as slots:
        seen = [slots.extend(layer, rows + 0.25 * layer, -rows) for layer in range(LAYERS)]
    keys, values = seen[0]
    assert torch.equal(seen[1][0], keys + 0.25)
    assert torch.equal(keys, -values)
    assert torch.equal(keys, keys[:, :1, :, :1].expand_as(keys))
    return keys[0, 0, :, 0]


OPERATIONS = st.one_of(
    st.just('drop'), st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 3, 5]), st.sampled_from(list(Write)))
)


@settings(max_examples=300, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=30))
def test_attention_sees_the_newest_frames_and_its_own(operations: list) -> None:
    pool, held = cache(), []  # held: (value, tokens, kind), oldest first
    for step, operation in enumerate(operations):
        if operation == 'drop':
            pool.drop_predicted()
            held = [frame for frame in held if frame[2] is not Write.PREDICTED]
            continue
        frames, tokens, kind = operation
        while sum(size for _, size, _ in held) + frames * tokens > SLOTS:
            held.pop(0)
        own = [(10.0 * step + i, tokens, kind) for i in range(frames)]
        expected = [value for value, size, _ in held + own for _ in range(size)]
        assert write(pool, 10.0 * step, frames, tokens, kind).tolist() == expected
        if kind is not Write.TRANSIENT:
            held += own
        assert pool.tokens == sum(size for _, size, _ in held)
        assert [entry.kind for entry in pool.entries] == [kind for _, _, kind in held]


def test_attention_reads_a_view_of_the_pool() -> None:
    pool = cache()
    with pool.write('video', 0, 2, 3, Write.CLEAN) as slots:
        rows = torch.zeros(1, 6, HEADS, DIM)
        keys, values = slots.extend(0, rows, rows)
    assert keys._is_view()
    assert values._is_view()


def test_entries_name_stream_and_frame() -> None:
    pool = cache()
    write(pool, 0.0, 2, 4, Write.PREDICTED, first=7)
    assert [(entry.stream, entry.frame, entry.stop - entry.start) for entry in pool.entries] == [
        ('video', 7, 4),
        ('video', 8, 4),
    ]


def test_a_failed_forward_leaves_no_entry() -> None:
    pool = cache()
    write(pool, 0.0, 1, 4, Write.CLEAN)
    with pytest.raises(ZeroDivisionError), pool.write('video', 1, 1, 4, Write.CLEAN):
        raise ZeroDivisionError
    assert write(pool, 5.0, 1, 2, Write.TRANSIENT).tolist() == [0.0] * 4 + [5.0] * 2


def test_a_write_larger_than_the_cache_is_refused() -> None:
    with pytest.raises(CacheError, match='25 tokens exceeds the 24 slots'):
        write(cache(), 0.0, 5, 5, Write.CLEAN)
