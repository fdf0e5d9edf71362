"""Training and inference agree: a whole episode as one masked sequence, and chunk by chunk through the cache."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lingbot_va_core.cache import KVCache, Write
from lingbot_va_core.config import ExpertConfig, TransformerConfig
from lingbot_va_core.initialization import initialize_transformer
from lingbot_va_core.sequence import SequenceError, Stream, causal_mask, even_chunks, velocities
from lingbot_va_core.transformer import TextContext, WorldTransformer

BATCH, FRAMES, ROWS, COLUMNS, ACTIONS = 2, 9, 4, 6, 5
EXPERTS = {'shared': None, 'mixture': ExpertConfig(24, 40)}


@pytest.fixture(params=EXPERTS)
def transformer(request: pytest.FixtureRequest) -> WorldTransformer:
    config = TransformerConfig(
        num_layers=3,
        num_heads=2,
        head_dim=16,
        video=ExpertConfig(32, 48),
        action=EXPERTS[request.param],
        latent_channels=5,
        patch_size=(1, 2, 2),
        text_dim=12,
        freq_dim=16,
    )
    transformer = WorldTransformer(config)
    initialize_transformer(transformer, torch.Generator().manual_seed(1))
    for parameter in transformer.parameters():  # no weight is so small that a mistake would not show
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return transformer.requires_grad_(False)


def episode(actions: int = ACTIONS, seed: int = 3) -> tuple[Stream, Stream, Tensor]:
    """Video, actions and text embeddings; every frame of both samples has a noise level of its own."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (BATCH, 5, FRAMES, ROWS, COLUMNS), (BATCH, FRAMES, actions, 30)
    video, action = (
        Stream(
            torch.randn(shape, generator=generator),
            torch.randn(shape, generator=generator),
            torch.rand(BATCH, FRAMES, generator=generator) * 1000,
        )
        for shape in shapes
    )
    return video, action, torch.randn(BATCH, 7, 12, generator=generator)


def with_given_first_frame(video: Stream, action: Stream) -> tuple[Stream, Stream]:
    """Frame 0 as inference treats it: known, at timestep 0, with actions of zero."""
    video.noisy[:, :, 0] = video.clean[:, :, 0]
    action.noisy[:, 0] = action.clean[:, 0] = 0
    video.timesteps[:, 0] = action.timesteps[:, 0] = 0
    return video, action


def by_chunks(
    transformer: WorldTransformer,
    video: Stream,
    action: Stream,
    text: TextContext,
    chunks: Sequence[int],
    slots: int = 10_000,
) -> tuple[Tensor, Tensor]:
    """Run inference with teacher forcing: per chunk and stream the noisy forward, then the clean write."""
    cache = KVCache(3, BATCH, 2, 16, slots)
    results: tuple[list[Tensor], list[Tensor]] = ([], [])
    first = 0
    for size in chunks:
        span = slice(first, first + size)
        for stream, forward, embed, axis, result in (
            (video, transformer.video, transformer.video_timing, 2, results[0]),
            (action, transformer.action, transformer.action_timing, 1, results[1]),
        ):
            clean_times = torch.zeros(BATCH, FRAMES) if stream.clean_timesteps is None else stream.clean_timesteps
            noisy, clean = (x.narrow(axis, first, size) for x in (stream.noisy, stream.clean))
            timing = embed(stream.timesteps[..., span])
            result.append(forward(noisy, timing, first, text, cache, Write.TRANSIENT))
            forward(clean, embed(clean_times[..., span]), first, text, cache, Write.CLEAN, head=False)
        first += size
    return torch.cat(results[0], dim=2), torch.cat(results[1], dim=1)


def assert_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


CHUNKS = {f'K={size}': even_chunks(FRAMES, size) for size in (1, 2, 3, 4)} | {'mixed': [1, 4, 2, 2]}


@pytest.mark.parametrize('chunks', CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize('given', [False, True], ids=['all frames noisy', 'first frame given'])
def test_one_sequence_equals_chunk_by_chunk(transformer: WorldTransformer, chunks: list[int], given: bool) -> None:
    video, action, embeddings = episode()
    if given:
        video, action = with_given_first_frame(video, action)
    text = transformer.text_context(embeddings)
    whole = velocities(transformer, video, action, text, chunks)
    assert_same(whole, by_chunks(transformer, video, action, text, chunks))


def test_chunks_matter(transformer: WorldTransformer) -> None:
    video, action, embeddings = episode()
    text = transformer.text_context(embeddings)
    one, other = (velocities(transformer, video, action, text, even_chunks(FRAMES, size)) for size in (2, 3))
    assert (one[0] - other[0]).abs().max() > 1e-2
    assert (one[1] - other[1]).abs().max() > 1e-2


@pytest.mark.parametrize('size', [1, 3])
def test_a_window_equals_a_released_cache_of_that_size(transformer: WorldTransformer, size: int) -> None:
    tokens = ROWS // 2 * COLUMNS // 2
    video, action, embeddings = episode(actions=tokens)  # as many action tokens as video tokens
    text, chunks = transformer.text_context(embeddings), even_chunks(FRAMES, size)
    ours = velocities(transformer, video, action, text, chunks, window=2)
    # One past chunk of each stream and the own one: ids 2 apart.
    theirs = by_chunks(transformer, video, action, text, chunks, slots=3 * size * tokens)
    assert_same(ours, theirs)
    unlimited = velocities(transformer, video, action, text, chunks)
    assert (ours[0] - unlimited[0]).abs().max() > 1e-2


def forward_dynamics_by_chunks(
    transformer: WorldTransformer,
    video: Stream,
    action: Stream,
    text: TextContext,
    chunks: Sequence[int],
    past: int = 10_000,
) -> Tensor:
    """Run inference with teacher forcing: given actions, the noisy video that sees them, then the clean writes.

    No forward sees more than `past` tokens of earlier ones.
    """
    cache, results, first = KVCache(3, BATCH, 2, 16, 10_000), [], 0
    still = transformer.action_timing
    for size in chunks:
        span = slice(first, first + size)
        noisy, clean = (x.narrow(2, first, size) for x in (video.noisy, video.clean))
        actions = action.clean[:, span]
        zero = torch.zeros(size)
        cache.trim(past)
        transformer.action(actions, still(zero), first, text, cache, Write.PREDICTED, head=False)
        timing = transformer.video_timing(video.timesteps[..., span])
        results.append(transformer.video(noisy, timing, first, text, cache, Write.TRANSIENT))
        cache.drop_predicted()
        clean_timing = transformer.video_timing(
            zero if video.clean_timesteps is None else video.clean_timesteps[:, span]
        )
        transformer.video(clean, clean_timing, first, text, cache, Write.CLEAN, head=False)
        cache.trim(past)
        transformer.action(actions, still(zero), first, text, cache, Write.CLEAN, head=False)
        first += size
    return torch.cat(results, dim=2)


@pytest.mark.parametrize('chunks', CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize('noisy_history', [False, True], ids=['clean history', 'noisy history'])
def test_forward_dynamics_in_one_sequence_equals_chunk_by_chunk(
    transformer: WorldTransformer, chunks: list[int], noisy_history: bool
) -> None:
    video, action, embeddings = episode()
    if noisy_history:
        video = replace(video, clean_timesteps=video.timesteps.flip(1) / 2)
    text = transformer.text_context(embeddings)
    whole = velocities(transformer, video, action, text, chunks, forward_dynamics=True)[0]
    by_chunk = forward_dynamics_by_chunks(transformer, video, action, text, chunks)
    assert_same((whole,), (by_chunk,))
    other = replace(action, clean=action.clean + 1.0)  # the actions of the own chunk matter, also in the first
    change = velocities(transformer, video, other, text, chunks, forward_dynamics=True)[0] - whole
    assert change.abs().amax(dim=(1, 3, 4)).min() > 1e-3  # in every frame
    unread = replace(action, noisy=action.noisy + 1.0, timesteps=action.timesteps / 2)
    assert torch.equal(velocities(transformer, video, unread, text, chunks, forward_dynamics=True)[0], whole)


@pytest.mark.parametrize('size', [1, 3])
def test_a_window_limits_forward_dynamics_as_a_cache_does(transformer: WorldTransformer, size: int) -> None:
    tokens = ROWS // 2 * COLUMNS // 2
    video, action, embeddings = episode(actions=tokens)
    text, chunks = transformer.text_context(embeddings), even_chunks(FRAMES, size)
    ours = velocities(transformer, video, action, text, chunks, window=2, forward_dynamics=True)[0]
    # One past chunk of each stream: ids 2 apart.
    theirs = forward_dynamics_by_chunks(transformer, video, action, text, chunks, past=2 * size * tokens)
    assert_same((ours,), (theirs,))
    assert (ours - velocities(transformer, video, action, text, chunks, forward_dynamics=True)[0]).abs().max() > 1e-2


def test_a_noisy_history_has_timesteps_of_its_own(transformer: WorldTransformer) -> None:
    video, action, embeddings = episode()
    noisy_history = replace(video, clean_timesteps=torch.rand(BATCH, FRAMES) * 500)
    text = transformer.text_context(embeddings)
    ours = velocities(transformer, noisy_history, action, text, [3, 3, 3])
    assert_same(ours, by_chunks(transformer, noisy_history, action, text, [3, 3, 3]))
    assert (ours[1] - velocities(transformer, video, action, text, [3, 3, 3])[1]).abs().max() > 1e-2


def test_one_timestep_per_frame_may_serve_the_whole_batch(transformer: WorldTransformer) -> None:
    video, action, embeddings = episode()
    text = transformer.text_context(embeddings)
    video, action = (replace(s, timesteps=s.timesteps[:1].expand(BATCH, -1)) for s in (video, action))
    single = [replace(s, timesteps=s.timesteps[0]) for s in (video, action)]
    assert_same(velocities(transformer, *single, text, [4, 5]), velocities(transformer, video, action, text, [4, 5]))


def test_the_mask_follows_the_rules_token_by_token() -> None:
    chunks, tokens = [2, 1], {'video': 2, 'action': 1}
    mask = causal_mask(chunks, tokens['video'], tokens['action'], 2, torch.device('cpu'))
    labels = [
        (2 * chunk + (stream == 'action'), noisy)
        for stream in ('video', 'action')
        for noisy in (True, False)
        for chunk in (0, 0, 1)
        for _ in range(tokens[stream])
    ]
    assert mask.shape == (len(labels), len(labels)) == (18, 18)
    for row, (own, noisy) in zip(mask.tolist(), labels, strict=True):
        for seen, (other, other_noisy) in zip(row, labels, strict=True):
            noisy_rule = noisy and own == other
            clean_rule = other < own or (not noisy and other == own)
            assert seen == ((noisy_rule if other_noisy else clean_rule) and abs(own - other) <= 2)


def test_the_forward_dynamics_mask_follows_the_rules_token_by_token() -> None:
    chunks, tokens = [2, 1], {'video': 2, 'action': 1}
    mask = causal_mask(chunks, tokens['video'], tokens['action'], None, torch.device('cpu'), forward_dynamics=True)
    labels = [
        (stream, chunk, noisy)
        for stream in ('video', 'action')
        for noisy in (True, False)
        for chunk in (0, 0, 1)
        for _ in range(tokens[stream])
    ]
    for row, (stream, chunk, noisy) in zip(mask.tolist(), labels, strict=True):
        for seen, (other_stream, other_chunk, other_noisy) in zip(row, labels, strict=True):
            if other_noisy:  # noisy video or given actions
                allowed = noisy and chunk == other_chunk and (stream == 'video' or other_stream == 'action')
            elif other_chunk == chunk:
                allowed = not noisy and (stream == 'action' or other_stream == 'video')
            else:
                allowed = other_chunk < chunk
            assert seen == allowed


def test_gradients_reach_every_weight_that_is_used_and_can_be_recomputed(transformer: WorldTransformer) -> None:
    video, action, embeddings = episode()
    transformer.requires_grad_(True)
    gradients = []
    for recompute in (False, True):
        transformer.zero_grad()
        text = transformer.text_context(embeddings)
        outputs = velocities(transformer, video, action, text, [4, 5], recompute=recompute)
        sum(output.square().mean() for output in outputs).backward()
        gradients.append({name: p.grad for name, p in transformer.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    unused = {name for name, _ in transformer.named_parameters()} - gradients[0].keys()
    shared = transformer.config.action is None
    assert all(name.startswith('condition_embedder_action.text_embedder') for name in unused)
    assert bool(unused) == shared  # the released layout has an action text embedder that nothing reads


@pytest.mark.parametrize(
    ('chunks', 'cut', 'message'),
    [([4, 4], {}, 'add up to the 9 frames'), ([9], {'clean': 8}, 'noisy is .* but clean'), ([], {}, 'chunks are')],
)
def test_what_does_not_go_together_is_refused(
    transformer: WorldTransformer, chunks: list[int], cut: dict, message: str
) -> None:
    video, action, embeddings = episode()
    action = replace(action, **{name: getattr(action, name)[:, :frames] for name, frames in cut.items()})
    with pytest.raises(SequenceError, match=message):
        velocities(transformer, video, action, transformer.text_context(embeddings), chunks)


def test_timesteps_of_another_number_of_frames_are_refused(transformer: WorldTransformer) -> None:
    video, action, embeddings = episode()
    video = replace(video, timesteps=torch.zeros(FRAMES + 1))
    with pytest.raises(SequenceError, match=r'timesteps are \[10\]; they must be \[9\] or \[2, 9\]'):
        velocities(transformer, video, action, transformer.text_context(embeddings), [9])
