"""Half precision: close to float32, and in float32 or better where rounding would be felt."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.config import ExpertConfig, TransformerConfig
from lingbot_va_core.initialization import initialize_transformer
from lingbot_va_core.rope import action_phases, rotate, video_phases
from lingbot_va_core.sequence import Stream, velocities
from lingbot_va_core.session import Session
from lingbot_va_core.transformer import ConditionEmbedder, WorldTransformer, add_gated, modulate, normalize

DEVICES = [
    'cpu',
    pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')),
]
BFLOAT16 = torch.bfloat16
CPU = torch.device('cpu')


def build(action: ExpertConfig | None) -> WorldTransformer:
    config = TransformerConfig(4, 4, 24, ExpertConfig(96, 192), action, 8, (1, 2, 2), 32, 32)
    transformer = WorldTransformer(config).requires_grad_(False)
    initialize_transformer(transformer, torch.Generator().manual_seed(1))
    return transformer


def relative(ours: Tensor, exact: Tensor) -> float:
    """Root mean square error against the magnitude."""
    return ((ours.double() - exact.double()).square().mean() / exact.double().square().mean()).sqrt().item()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('action', [None, ExpertConfig(48, 96)], ids=['shared', 'mixture'])
def test_the_training_form_in_half_precision(action: ExpertConfig | None, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes, times = ((2, 8, 5, 8, 6), (2, 5, 4, 30)), torch.linspace(0, 1000, 5, device=device)
    streams = [Stream(*(torch.randn(s, generator=generator).to(device) for _ in range(2)), times) for s in shapes]
    embeddings = torch.randn(2, 9, 32, generator=generator).to(device)
    results = {}
    for dtype in (torch.float32, BFLOAT16):
        transformer = build(action).to(device, dtype)
        results[dtype] = velocities(transformer, *streams, transformer.text_context(embeddings), [2, 3])
    for half, full in zip(results[BFLOAT16], results[torch.float32], strict=True):
        assert half.dtype == torch.float32
        assert 0 < relative(half, full) < 0.03


@pytest.mark.parametrize('device', DEVICES)
def test_the_closed_loop_in_half_precision(tiny: WorldModel, device: str) -> None:
    chunks = {}
    for dtype in (torch.float32, BFLOAT16):
        fresh = WorldTransformer(tiny.config.transformer).to(device, dtype).requires_grad_(False)
        fresh.load_state_dict(tiny.transformer.state_dict())
        session = Session(replace(tiny, transformer=fresh, device=torch.device(device), dtype=dtype))
        session.start('transfer the cube')
        generator = torch.Generator().manual_seed(3)
        session.observe(0, torch.randn(24, 6, 6, generator=generator))
        chunks[dtype] = []
        for _ in range(4):
            chunk = session.predict()
            chunks[dtype].append(chunk)
            for index in range(chunk.first_latent_index, chunk.first_latent_index + len(chunk.actions)):
                session.observe(index, torch.randn(24, 6, 6, generator=generator))
                session.executed(index, torch.zeros(16, 30))
    for half, full in zip(chunks[BFLOAT16], chunks[torch.float32], strict=True):
        assert relative(half.latents, full.latents) < 0.03
        assert relative(torch.from_numpy(half.actions), torch.from_numpy(full.actions)) < 0.03


def test_timesteps_are_told_apart_in_half_precision() -> None:
    """999 and 1000 are the same number in bfloat16; their sinusoids are not."""
    embedder = ConditionEmbedder(64, 32, 8).to(BFLOAT16).requires_grad_(False)
    timesteps = torch.tensor([999.0, 1000.0])
    assert timesteps.to(BFLOAT16).unique().numel() == 1
    angle = timesteps.double()[:, None] * 1e4 ** -(torch.arange(16, dtype=torch.float64) / 16)
    first, second = (
        (layer.weight.double(), layer.bias.double())
        for layer in (embedder.time_embedder.linear_1, embedder.time_embedder.linear_2)
    )
    hidden = torch.nn.functional.silu(torch.cat([angle.cos(), angle.sin()], dim=1) @ first[0].T + first[1])
    exact = hidden @ second[0].T + second[1]
    embedding, modulation = embedder.time(timesteps)
    assert embedding.dtype == modulation.dtype == torch.float32
    assert (embedding - exact).norm(dim=1).max() < 0.1 * (exact[0] - exact[1]).norm()


def test_the_rotation_is_exact_to_the_last_bits_of_the_input() -> None:
    phases = torch.cat([video_phases(24, 900, 2, 3, 4, CPU), action_phases(24, 900, 2, 5, CPU)])
    x = torch.randn(2, len(phases), 3, 24, generator=torch.Generator().manual_seed(0))
    exact = torch.view_as_real(
        torch.view_as_complex(x.double().unflatten(-1, (-1, 2))) * phases.to(torch.complex128)[:, None]
    ).flatten(-2)
    torch.testing.assert_close(rotate(x, phases).double(), exact, rtol=0, atol=1e-6)
    half = x.to(BFLOAT16)
    exact_half = torch.view_as_real(
        torch.view_as_complex(half.double().unflatten(-1, (-1, 2))) * phases.to(torch.complex128)[:, None]
    ).flatten(-2)
    assert rotate(half, phases).dtype == BFLOAT16
    assert (rotate(half, phases) != exact_half.to(BFLOAT16)).double().mean() < 1e-3


def test_phases_are_exact_far_into_an_episode() -> None:
    frame, actions = 1000, 16
    phases = action_phases(128, frame, 1, actions, CPU)
    positions = frame + torch.arange(1, actions + 1, dtype=torch.float64) / (actions + 1)
    angle = positions[:, None] * 1e4 ** -(torch.arange(0, 44, 2, dtype=torch.float64) / 44)
    exact = torch.polar(torch.ones_like(angle), angle.float().double())
    torch.testing.assert_close(phases[:, :22].to(torch.complex128), exact, rtol=0, atol=1e-7)


def test_norms_and_residual_sums_are_taken_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (100 + torch.randn(1, 2, 3, 64, generator=generator)).to(BFLOAT16)
    shift, scale, gate = torch.randn(3, 2, 1, 64, generator=generator)
    y = torch.randn(1, 2, 3, 64, generator=generator).to(BFLOAT16)
    exact = torch.nn.functional.layer_norm(x.double(), (64,), eps=1e-6)
    for ours, unrounded in (
        (normalize(x, 1e-6), exact),
        (modulate(x, shift, scale, 1e-6), exact * scale + shift),
        (add_gated(x, y, gate), x.double() + y.double() * gate.double()),
    ):
        assert ours.dtype == BFLOAT16
        assert (ours != unrounded.to(BFLOAT16)).double().mean() < 0.01  # rounded once, at the end
