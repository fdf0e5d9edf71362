"""The action expert starts from the video expert with outputs of the same variance."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingbot_va_core.cache import KVCache, Write
from lingbot_va_core.config import ExpertConfig, TransformerConfig
from lingbot_va_core.expert_initialization import ExpertError, initialize_action_expert, interpolate, with_action_expert
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import preset
from lingbot_va_core.transformer import WorldTransformer, modulate
from lingbot_va_core.world_model import WorldModel, skeleton

WIDTH, HEADS = 384, 4


def build(action_width: int, action_ffn: int, smooth: bool = False) -> WorldTransformer:
    """A video expert as if trained: biases, gains around 1, weights of any variance; the action expert likewise.

    With `smooth`, neighbouring channels are alike.
    """
    config = TransformerConfig(
        num_layers=1,
        num_heads=HEADS,
        head_dim=WIDTH // HEADS,
        video=ExpertConfig(WIDTH, 1024),
        action=ExpertConfig(action_width, action_ffn),
        latent_channels=4,
        patch_size=(1, 2, 2),
        text_dim=64,
        freq_dim=64,
    )
    transformer = WorldTransformer(config).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in transformer.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if smooth and values.dim() == 2:
            kernel = torch.ones(1, 1, 5, 5) / 5
            values = F.conv2d(F.pad(values[None, None], (2, 2, 2, 2), mode='circular'), kernel)[0, 0]
        gain = 'norm' in name and name.endswith('weight')
        scale = 1.3 / math.sqrt(parameter.shape[-1]) if parameter.dim() == 2 else 0.1
        parameter.copy_(values * scale + (1.0 if gain else 0.0))
    return transformer


def linears(transformer: WorldTransformer) -> dict[str, tuple[nn.Linear, nn.Linear]]:
    """Each linear layer of the action expert and the one of the video expert that it comes from."""
    pairs = {}
    for expert, source in (
        (transformer.action_blocks, transformer.blocks),
        (transformer.condition_embedder_action, transformer.condition_embedder),
    ):
        sources = dict(source.named_modules())
        pairs |= {name: (m, sources[name]) for name, m in expert.named_modules() if isinstance(m, nn.Linear)}
    return pairs


def gain(layer: nn.Linear, weight: Tensor | None = None) -> float:
    """Variance of the outputs for inputs of unit variance, without the bias, averaged over the outputs."""
    weight = layer.weight if weight is None else weight
    inputs = torch.randn(4000, weight.shape[1], generator=torch.Generator().manual_seed(1))
    return (inputs @ weight.T).var(dim=0).mean().item()


def plain(source: Tensor, shape: torch.Size) -> Tensor:
    return F.interpolate(source[None, None], size=tuple(shape), mode='bilinear', align_corners=False)[0, 0]


def truncate(source: Tensor, shape: torch.Size) -> Tensor:
    return source[: shape[0], : shape[1]]


@pytest.mark.parametrize('smooth', [False, True], ids=['independent', 'smooth'])
@pytest.mark.parametrize(('width', 'ffn'), [(96, 256), (128, 320)], ids=['quarter', 'odd ratio'])
def test_every_linear_layer_keeps_the_variance_of_its_outputs(width: int, ffn: int, smooth: bool) -> None:
    transformer = build(width, ffn, smooth)
    initialize_action_expert(transformer)
    pairs = linears(transformer)
    assert len(pairs) == 10 + 5
    for name, (ours, source) in pairs.items():
        assert ours.weight.shape != source.weight.shape, name
        assert gain(ours) == pytest.approx(gain(source), rel=0.1), name
        assert ours.bias.std().item() == pytest.approx(source.bias.std().item(), rel=0.05), name


@pytest.mark.parametrize('naive', [plain, truncate])
def test_naive_initialisations_do_not(naive: Callable[[Tensor, torch.Size], Tensor]) -> None:
    transformer = build(96, 256)
    for name, (ours, source) in linears(transformer).items():
        if ours.in_features < source.in_features:
            assert gain(ours, naive(source.weight, ours.weight.shape)) < 0.4 * gain(source), name


def test_the_scale_is_that_of_the_paper() -> None:
    transformer = build(96, 256)
    initialize_action_expert(transformer)
    ours, source = linears(transformer)['0.attn1.to_q']
    assert ours.weight.std() / source.weight.std() == pytest.approx(math.sqrt(WIDTH / 96), rel=1e-4)
    ours, source = linears(transformer)['0.attn1.to_out.0']  # reads all heads, as wide as in the video expert
    assert ours.weight.std() / source.weight.std() == pytest.approx(1, rel=1e-4)


def test_a_whole_block_moves_its_stream_as_much_as_the_video_block() -> None:
    transformer = build(96, 256)
    transformer.condition_embedder.time_proj.bias.view(6, -1)[2].add_(0.5)  # gates, as training leaves them
    initialize_action_expert(transformer)
    changes = {}
    for stream, blocks, embed in (
        ('video', transformer.blocks, transformer.video_timing),
        ('action', transformer.action_blocks, transformer.action_timing),
    ):
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(8, 3, 20, blocks[0].scale_shift_table.shape[-1], generator=generator)
        heads = torch.randn(8, 60, HEADS, WIDTH // HEADS, generator=generator)
        text = getattr(transformer.text_context(torch.randn(8, 7, 64, generator=generator)), stream)[0]
        timing = embed(torch.tensor([0.0, 300.0, 900.0]))
        changes[stream] = (blocks[0].update(x, timing.layers[0], heads, text) - x).var().item()
        normed = modulate(x, *timing.layers[0][:2], 1e-6)
        changes[f'{stream} query'] = blocks[0].attn1.to_q(normed).var().item()
    assert changes['action'] == pytest.approx(changes['video'], rel=0.3)
    assert changes['action query'] == pytest.approx(changes['video query'], rel=0.15)


def test_gains_tables_and_biases_keep_their_values() -> None:
    transformer = build(96, 256)
    transformer.blocks[0].norm2.weight.fill_(1.0)
    transformer.blocks[0].attn2.norm_q.weight.copy_(torch.linspace(1, 2, WIDTH))
    transformer.blocks[0].scale_shift_table[:, 2] += 0.5
    transformer.condition_embedder.time_proj.bias.view(6, -1)[5].add_(2.0)
    initialize_action_expert(transformer)
    block = transformer.action_blocks[0]
    torch.testing.assert_close(block.norm2.weight, torch.ones(96))
    torch.testing.assert_close(block.attn2.norm_q.weight, torch.linspace(1, 2, 96), rtol=0, atol=0.01)
    for ours, source in (
        (block.scale_shift_table[0], transformer.blocks[0].scale_shift_table[0]),
        (transformer.action_scale_shift_table[0], transformer.scale_shift_table[0]),
        (transformer.condition_embedder_action.time_proj.bias.view(6, -1), time_bias(transformer)),
    ):
        torch.testing.assert_close(ours.mean(dim=1), source.mean(dim=1))
        torch.testing.assert_close(ours.std(dim=1, correction=0), source.std(dim=1, correction=0))


def time_bias(transformer: WorldTransformer) -> Tensor:
    return transformer.condition_embedder.time_proj.bias.view(6, -1)


def test_embedder_and_head_of_the_actions_are_left_alone() -> None:
    transformer = build(96, 256)
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    initialize_action_expert(transformer)
    after = transformer.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    prefixes = ('action_blocks.', 'condition_embedder_action.', 'action_scale_shift_table')
    assert changed == {name for name in before if name.startswith(prefixes)}


def test_weights_that_keep_their_shape_are_copied() -> None:
    weight = torch.randn(5, 7)
    assert torch.equal(interpolate(weight, weight.shape), weight)


def test_half_precision_weights_are_derived_in_full_precision() -> None:
    transformer, half = build(96, 256), build(96, 256).to(torch.bfloat16)
    initialize_action_expert(transformer)
    initialize_action_expert(half)
    for name, (ours, _) in linears(half).items():
        torch.testing.assert_close(ours.weight.float(), linears(transformer)[name][0].weight, rtol=0.1, atol=0.01)


def test_one_shared_expert_needs_nothing() -> None:
    config = TransformerConfig(1, 2, 8, ExpertConfig(16, 16), None, 2, (1, 1, 1), 8, 8)
    transformer = WorldTransformer(config)
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    initialize_action_expert(transformer)
    assert all(torch.equal(before[name], tensor) for name, tensor in transformer.state_dict().items())


def shared_model(dtype: torch.dtype = torch.float32) -> WorldModel:
    """A small model of one expert, as if trained: no weight is zero, nothing is tied."""
    config = preset('tiny')
    sizes = {'num_layers': 2, 'num_heads': HEADS, 'head_dim': WIDTH // HEADS, 'video': ExpertConfig(WIDTH, 1024)}
    transformer = replace(config.transformer, action=None, **sizes)
    normalizer = ActionNormalizer((-1.0,) * 30, (1.0,) * 30, (True,) * 30)
    model = skeleton('small', replace(config, transformer=transformer), normalizer, torch.device('cpu'), dtype)
    model.vae.to_empty(device='cpu')
    generator = torch.Generator().manual_seed(0)
    model.transformer.to_empty(device='cpu').to(dtype)
    for name, parameter in model.transformer.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        scale = 1.3 / math.sqrt(parameter.shape[-1]) if parameter.dim() == 2 else 0.1
        parameter.data.copy_(values * scale + (1.0 if 'norm' in name and name.endswith('weight') else 0.0))
    return model


def video_velocity(transformer: WorldTransformer) -> Tensor:
    """Two frames after one that is in the cache."""
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(1, 24, 3, 4, 6, generator=generator).to(transformer.proj_out.weight.dtype)
    text = transformer.text_context(torch.randn(1, 7, 384, generator=generator))
    cache = KVCache(2, 1, 4, WIDTH // 4, 200, dtype=latents.dtype)
    first = transformer.video_timing(torch.zeros(1))
    transformer.video(latents[:, :, :1], first, 0, text, cache, Write.CLEAN, head=False)
    timing = transformer.video_timing(torch.tensor([700.0, 300.0]))
    return transformer.video(latents[:, :, 1:], timing, 1, text, cache, Write.TRANSIENT)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_a_shared_model_with_an_action_expert_of_its_own_imagines_the_same_to_the_bit(dtype: torch.dtype) -> None:
    shared = shared_model(dtype)
    mot = with_action_expert(shared)
    assert mot.config.transformer.action == ExpertConfig(96, 256)
    assert torch.equal(video_velocity(mot.transformer), video_velocity(shared.transformer))
    assert {weight.dtype for weight in mot.transformer.parameters()} == {dtype}
    assert mot.transformer.blocks[0].attn1.to_q.weight.data_ptr() == (
        shared.transformer.blocks[0].attn1.to_q.weight.data_ptr()
    )


def test_the_new_expert_starts_with_the_variance_of_what_the_shared_one_has_learned() -> None:
    shared = shared_model()
    shared.transformer.condition_embedder_action.time_proj.weight.data *= 3  # of the actions, unlike that of the video
    mot, learned = with_action_expert(shared).transformer, shared.transformer
    embedder, theirs = mot.condition_embedder_action, learned.condition_embedder_action
    pairs = [(ours, dict(learned.blocks.named_modules())[name]) for name, ours in mot.action_blocks.named_modules()]
    pairs += [
        (mot.action_embedder, learned.action_embedder),
        (mot.action_proj_out, learned.action_proj_out),
        (embedder.time_embedder.linear_1, theirs.time_embedder.linear_1),
        (embedder.time_proj, theirs.time_proj),
        (embedder.text_embedder.linear_1, learned.condition_embedder.text_embedder.linear_1),
    ]
    pairs = [pair for pair in pairs if isinstance(pair[0], nn.Linear)]
    assert len(pairs) == 2 * 10 + 5
    for ours, source in pairs:
        assert ours.weight.shape != source.weight.shape
        assert gain(ours) == pytest.approx(gain(source), rel=0.1)
    text = learned.condition_embedder.text_embedder.linear_1.bias
    torch.testing.assert_close(embedder.text_embedder.linear_1.bias, interpolate(text, torch.Size([96])))


def test_a_model_that_has_an_action_expert_is_refused() -> None:
    with pytest.raises(ExpertError, match="'small-mot' has an action expert already; give one that has"):
        with_action_expert(with_action_expert(shared_model()))
