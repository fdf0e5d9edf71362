"""The transformer: incremental and whole computation agree, and weights have the released names."""

import pytest
import torch
from torch import Tensor

from lingbot_va_core.attention import attend
from lingbot_va_core.cache import KVCache, Write
from lingbot_va_core.config import ExpertConfig, TransformerConfig
from lingbot_va_core.initialization import initialize_transformer
from lingbot_va_core.rope import action_phases, video_phases
from lingbot_va_core.transformer import WorldTransformer, modulate

FRAMES, ROWS, COLUMNS, ACTIONS = 2, 4, 6, 5


def build(action: ExpertConfig | None, patch_size: tuple[int, int, int] = (1, 2, 2)) -> WorldTransformer:
    config = TransformerConfig(
        num_layers=3,
        num_heads=2,
        head_dim=16,
        video=ExpertConfig(32, 48),
        action=action,
        latent_channels=5,
        patch_size=patch_size,
        text_dim=12,
        freq_dim=16,
    )
    transformer = WorldTransformer(config)
    initialize_transformer(transformer, torch.Generator().manual_seed(1))
    for parameter in transformer.parameters():  # no weight is so small that a mistake would not show
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return transformer.requires_grad_(False)


EXPERTS = {'shared': None, 'mixture': ExpertConfig(24, 20)}


@pytest.fixture(params=EXPERTS)
def transformer(request: pytest.FixtureRequest) -> WorldTransformer:
    return build(EXPERTS[request.param])


def forwards(count: int) -> list[tuple[str, int, Tensor, Tensor]]:
    """Alternate video and action forwards: stream, first frame, input, timesteps."""
    generator = torch.Generator().manual_seed(3)
    result = []
    for i in range(count):
        first = FRAMES * (i // 2)
        timesteps = torch.tensor([0.0, 700.0 if i == count - 1 else 0.0])
        if i % 2 == 0:
            x = torch.randn(2, 5, FRAMES, ROWS, COLUMNS, generator=generator)
            result.append(('video', first, x, timesteps))
        else:
            result.append(('action', first, torch.randn(2, FRAMES, ACTIONS, 30, generator=generator), timesteps))
    return result


def cached(transformer: WorldTransformer, steps: list, text: Tensor, slots: int) -> Tensor:
    cache = KVCache(3, 2, 2, 16, slots)
    context = transformer.text_context(text)
    for stream, first, x, timesteps in steps:
        forward, embed = getattr(transformer, stream), getattr(transformer, f'{stream}_timing')
        output = forward(x, embed(timesteps), first, context, cache, Write.CLEAN)
    return output


def recomputed(transformer: WorldTransformer, steps: list, text: Tensor, window: int) -> Tensor:
    """Run all forwards layer by layer without a cache; each sees itself and the `window` forwards before it."""
    context = transformer.text_context(text)
    shared = transformer.config.action is None
    action_blocks = transformer.blocks if shared else transformer.action_blocks
    blocks = {'video': transformer.blocks, 'action': action_blocks}
    hidden, phases, timings = [], [], []
    for stream, first, x, timesteps in steps:
        timings.append(getattr(transformer, f'{stream}_timing')(timesteps))
        if stream == 'video':
            p, q = transformer.config.patch_size[1:]
            tokens = x.reshape(2, 5, FRAMES, ROWS // p, p, COLUMNS // q, q).permute(0, 2, 3, 5, 1, 4, 6)
            hidden.append(transformer.patch_embedding_mlp(tokens.reshape(2, FRAMES, -1, 5 * p * q)))
            phases.append(video_phases(16, first, FRAMES, ROWS // p, COLUMNS // q, x.device))
        else:
            hidden.append(transformer.action_embedder(x))
            phases.append(action_phases(16, first, FRAMES, ACTIONS, x.device))
    for layer in range(3):
        projected = [
            blocks[step[0]][layer].project(hidden[i], timings[i].layers[layer], phases[i])
            for i, step in enumerate(steps)
        ]
        for i, (stream, *_) in enumerate(steps):
            seen = projected[max(0, i - window) : i + 1]
            key, value = (torch.cat([kv[n] for kv in seen], dim=1).transpose(1, 2) for n in (1, 2))
            attended = attend(projected[i][0], key, value)
            layer_text = getattr(context, stream)[layer]
            hidden[i] = blocks[stream][layer].update(hidden[i], timings[i].layers[layer], attended, layer_text)
    x = modulate(hidden[-1], *timings[-1].head, transformer.config.eps)
    if steps[-1][0] == 'action':
        return transformer.action_proj_out(x)
    p, q = transformer.config.patch_size[1:]
    x = transformer.proj_out(x).reshape(2, FRAMES, ROWS // p, COLUMNS // q, p, q, 5)
    return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(2, 5, FRAMES, ROWS, COLUMNS)


@pytest.mark.parametrize('count', [1, 5, 6])
def test_cached_forward_equals_recomputing_the_whole_sequence(transformer: WorldTransformer, count: int) -> None:
    text = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(4))
    steps = forwards(count)
    ours, whole = cached(transformer, steps, text, slots=200), recomputed(transformer, steps, text, window=count)
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('count', [9, 12])
def test_a_full_cache_attends_to_the_newest_chunks_only(transformer: WorldTransformer, count: int) -> None:
    text = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(4))
    steps = forwards(count)
    chunk = FRAMES * (ROWS // 2 * COLUMNS // 2 + ACTIONS)
    ours, windowed = cached(transformer, steps, text, slots=2 * chunk), recomputed(transformer, steps, text, window=3)
    torch.testing.assert_close(ours, windowed, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, recomputed(transformer, steps, text, window=count), rtol=1e-3)


def test_writing_without_a_head_fills_the_cache_alike(transformer: WorldTransformer) -> None:
    context = transformer.text_context(torch.randn(2, 7, 12))
    _, first, x, timesteps = forwards(1)[0]
    outputs = []
    for head in (True, False):
        cache = KVCache(3, 2, 2, 16, 100)
        transformer.video(x, transformer.video_timing(timesteps), first, context, cache, Write.CLEAN, head)
        actions = torch.ones(2, FRAMES, ACTIONS, 30)
        timing = transformer.action_timing(timesteps)
        outputs.append(transformer.action(actions, timing, first, context, cache, Write.TRANSIENT))
    assert torch.equal(*outputs)


def test_patches_of_one_latent_position_work(transformer: WorldTransformer) -> None:
    single = build(transformer.config.action, patch_size=(1, 1, 1))
    text, steps = torch.randn(2, 7, 12), forwards(3)
    ours, whole = cached(single, steps, text, slots=300), recomputed(single, steps, text, window=3)
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def test_shared_weights_have_the_released_names_and_shapes() -> None:
    with torch.device('meta'):
        config = TransformerConfig(30, 24, 128, ExpertConfig(3072, 14336), None, 48, (1, 2, 2), 4096, 256)
        weights = {name: list(tensor.shape) for name, tensor in WorldTransformer(config).state_dict().items()}
    assert len(weights) == 841 - 2  # without the unused legacy patch embedding
    assert weights['blocks.29.attn1.to_out.0.weight'] == [3072, 3072]
    assert weights['blocks.0.attn2.norm_k.weight'] == [3072]
    assert weights['blocks.0.ffn.net.0.proj.weight'] == [14336, 3072]
    assert weights['blocks.0.ffn.net.2.bias'] == [3072]
    assert weights['blocks.0.norm2.weight'] == [3072]
    assert weights['blocks.0.scale_shift_table'] == [1, 6, 3072]
    assert weights['patch_embedding_mlp.weight'] == [3072, 192]
    assert weights['action_proj_out.weight'] == [30, 3072]
    assert weights['condition_embedder_action.time_proj.weight'] == [6 * 3072, 3072]
    assert weights['condition_embedder.text_embedder.linear_1.weight'] == [3072, 4096]
    assert weights['scale_shift_table'] == [1, 2, 3072]
    assert round(sum(torch.Size(shape).numel() for shape in weights.values()) / 1e9, 2) == 5.09


def test_an_action_expert_adds_weights_under_names_of_its_own() -> None:
    shared, mixture = build(None).state_dict(), build(EXPERTS['mixture']).state_dict()
    added = mixture.keys() - shared.keys()
    assert shared.keys() <= mixture.keys()
    assert all(name.startswith(('action_blocks.', 'action_scale_shift_table')) for name in added)
    assert list(mixture['action_blocks.0.attn1.to_q.weight'].shape) == [32, 24]  # up to the video width
    assert list(mixture['action_blocks.0.attn1.to_out.0.weight'].shape) == [24, 32]  # and back down
