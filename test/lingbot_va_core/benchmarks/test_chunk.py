"""The released way of running a model gives the numbers of ours, and what is measured of both is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from plain_closed_loop import configured, latent, small_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lingbot_va_core.benchmarks.chunk import encoder_flops, measure_chunk, released_settings
from lingbot_va_core.benchmarks.released_loop import OVERHEADS, ReleasedLoop
from lingbot_va_core.benchmarks.timing import Ceilings
from lingbot_va_core.benchmarks.workload import Forward, cycle_forwards, forward_bytes, forward_flops, roofline
from lingbot_va_core.cache import KVCache
from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.config import TextConfig
from lingbot_va_core.initialization import initialize_transformer
from lingbot_va_core.session import Chunk, Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.transformer import WorldTransformer

SETTINGS: list[dict[str, Any]] = [
    {},
    {'video_guidance': 5.0},
    {'video_guidance': 3.0, 'action_guidance': 2.0, 'video_exec_step': None},
    {'chunk_frames': 1, 'attn_window': 5},
    {'chunk_frames': 3, 'video_exec_step': None, 'video_steps': 2, 'action_shift': 0.05},
]


@pytest.fixture(scope='module')
def small(tiny: WorldModel) -> WorldModel:
    model = small_model(tiny)
    return replace(model, config=replace(model.config, text=TextConfig('hashed', model.text.length)))


def one_expert(model: WorldModel) -> WorldModel:
    """The kind of model that was released."""
    config = replace(model.config, transformer=replace(model.config.transformer, action=None))
    transformer = WorldTransformer(config.transformer).requires_grad_(False)
    initialize_transformer(transformer, torch.Generator().manual_seed(4))
    return replace(model, config=config, transformer=transformer)


def run(loop: Session | ReleasedLoop, model: WorldModel, cycles: int) -> list[Chunk]:
    """Chunks that follow each other, executed as predicted."""
    rollout, generator = model.config.rollout, torch.Generator().manual_seed(5)
    loop.start('transfer the cube')
    loop.observe(0, latent(0))
    chunks = []
    for _ in range(cycles):
        channels, rows, columns = model.config.latent_shape
        video = torch.randn(channels, rollout.chunk_frames, rows, columns, generator=generator)
        action = torch.randn(rollout.chunk_frames, rollout.actions_per_latent, 30, generator=generator)
        chunks.append(loop.predict(video, action))
        for i, actions in enumerate(chunks[-1].actions, start=chunks[-1].first_latent_index):
            loop.observe(i, latent(i))
            loop.executed(i, actions)
    return chunks


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
@pytest.mark.parametrize('shared', [False, True])
def test_the_released_way_gives_our_numbers(settings: dict[str, Any], shared: bool, small: WorldModel) -> None:
    model = configured(one_expert(small) if shared else small, cache_eviction='released', **settings)
    cycles = model.config.rollout.attn_window // 2 + 4  # the window is full long before the end
    ours, theirs = run(Session(model), model, cycles), run(ReleasedLoop(model), model, cycles)
    for one, other in zip(ours, theirs, strict=True):
        assert one.first_latent_index == other.first_latent_index
        torch.testing.assert_close(one.latents, other.latents, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(*(torch.from_numpy(c.actions) for c in (one, other)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('overhead', OVERHEADS)
def test_so_it_does_without_each_overhead(overhead: str, small: WorldModel) -> None:
    for base in (small, one_expert(small)):
        model = configured(base, cache_eviction='released', video_guidance=5.0, video_exec_step=None)
        theirs, spared = (run(ReleasedLoop(model, names), model, 7) for names in ((), (overhead,)))
        for one, other in zip(theirs, spared, strict=True):
            torch.testing.assert_close(one.latents, other.latents, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(*(torch.from_numpy(c.actions) for c in (one, other)), rtol=1e-4, atol=1e-5)


@contextmanager
def recorded_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, int, int, int]]]:
    """Stream, rows, tokens and context of every forward."""
    found, write = [], KVCache.write

    @contextmanager
    def recording(self: KVCache, stream: str, *args: Any) -> Iterator[Any]:
        with write(self, stream, *args) as slots:
            found.append((stream, slots.rows, slots.stop - slots.start, slots.stop - slots.begin))
            yield slots

    with monkeypatch.context() as patch:
        patch.setattr(KVCache, 'write', recording)
        yield found


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_the_work_of_a_cycle_is_what_a_session_does(
    settings: dict[str, Any], small: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = configured(small, cache_eviction='released', **settings)
    session, full = Session(model), model.config.rollout.attn_window // 2 + 2
    chunk = run(session, model, full)[-1]
    assert chunk.index == full - 1
    with (
        recorded_writes(monkeypatch) as written,
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        session.predict()
    forwards = cycle_forwards(model.config)
    assert [(each.stream, each.rows, each.tokens, each.context) for each in forwards] == written
    assert sum(forward_flops(model.config, each) for each in forwards) == counter.get_total_flops()


def test_bytes_are_those_of_weights_keys_and_values(small: WorldModel) -> None:
    config, transformer = small.config, small.transformer
    used = [
        weight.numel()
        for name, weight in transformer.named_parameters()
        if weight.ndim == 2 and name.startswith('blocks.') and 'attn2.to_k' not in name and 'attn2.to_v' not in name
    ]
    ends = transformer.patch_embedding_mlp.weight.numel() + transformer.proj_out.weight.numel()
    rows, tokens, context, text = 2, 8, 40, config.text.length
    cached = 2 * 2 * rows * (tokens + context + text) * 24  # layers, keys and values, width
    forward = Forward('video', 'video', rows, tokens, context)
    assert forward_bytes(config, forward, itemsize=4) == 4 * (sum(used) + ends + cached)
    projections = 3 * 24 * 24  # all that is left of the last layer
    last = sum(used) // 2 - projections + 2 * rows * (context + text) * 24
    head = transformer.proj_out.weight.numel()
    unfinished = forward_bytes(config, replace(forward, head=False), itemsize=4)
    assert unfinished == 4 * (sum(used) + ends + cached - last - head)


def test_a_forward_is_bound_by_what_takes_longer(small: WorldModel) -> None:
    forward = Forward('video', 'video', 1, 8, 40)
    flops, nbytes = forward_flops(small.config, forward), forward_bytes(small.config, forward, 4)
    slow_memory = roofline(small.config, [forward] * 3, 4, Ceilings(flops=1e15, bandwidth=1e6))
    slow_products = roofline(small.config, [forward] * 3, 4, Ceilings(flops=1e6, bandwidth=1e15))
    assert slow_memory['ms'] == pytest.approx(3e3 * nbytes / 1e6)
    assert slow_products['ms'] == pytest.approx(3e3 * flops / 1e6)


def test_the_work_of_encoding_is_what_the_encoder_does(tiny: WorldModel, images: list) -> None:
    encoder = StreamingEncoder(tiny.vae, tiny.config.rollout)
    encoder.encode(images[:1])
    with FlopCounterMode(display=False) as counter:
        encoder.encode(images[1:9])
    assert encoder_flops(tiny.config, 2) == counter.get_total_flops()


def test_a_measurement_is_complete(tiny: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lingbot_va_core.benchmarks.timing.MATRIX', {'cpu': 64})
    monkeypatch.setattr('lingbot_va_core.benchmarks.timing.COPIED', {'cpu': 1 << 16})
    model = replace(tiny, config=released_settings(tiny.config))
    numbers = measure_chunk(model, repeats=2)
    assert numbers['difference']['agrees']
    assert numbers['forwards'] == {'ground': 2, 'video': 3, 'action': 4}
    assert numbers['motion_ms'] == pytest.approx(640.0)
    for way in ('ours', 'baseline'):
        parts = [numbers[way][f'{part}_ms']['min'] for part in ('encode', 'ground', 'video', 'action')]
        assert 0 < sum(parts) <= numbers[way]['cycle_ms']['min'] * 1.0001
    assert numbers['speedup'] == pytest.approx(
        numbers['baseline']['cycle_ms']['p50'] / numbers['ours']['cycle_ms']['p50']
    )
    whole = numbers['roofline']['cycle']
    assert whole['gflop'] == pytest.approx(
        sum(numbers['roofline'][part]['gflop'] for part in ('encode', 'ground', 'video', 'action'))
    )
    assert set(measure_chunk(model, 1, encode=False, ablate=True)) >= {f'without_{name}' for name in OVERHEADS}
    alone = measure_chunk(model, repeats=1, encode=False, baseline=False)
    assert 'baseline' not in alone and 'difference' not in alone
    assert alone['ours']['encode_ms']['max'] == 0
