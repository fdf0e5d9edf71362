"""The Wan2.2 VAE: agreement with diffusers' own whole-clip code, streams with explicit state."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from lingbot_va_core.canvas import split, to_pixels
from lingbot_va_core.config import RolloutConfig, WanVAEConfig
from lingbot_va_core.initialization import initialize_vae
from lingbot_va_core.streaming import StreamingDecoder, StreamingEncoder, load_state, save_state
from lingbot_va_core.vae import VAEError, build_vae
from lingbot_va_core.wan_vae import WanVAE, fold, unfold

LATENTS = 4  # in the whole clip
CONFIG = WanVAEConfig(
    kind='wan',
    base_dim=8,
    decoder_base_dim=4,
    latent_channels=6,
    dim_mult=(1, 2, 4, 4),
    num_res_blocks=1,
    temporal_downsample=(False, True, True),
    patch_size=2,
    latents_mean=(0.1, -0.2, 0.0, 0.4, -0.5, 0.3),
    latents_std=(0.5, 1.5, 1.0, 0.7, 0.9, 1.2),
)


def build() -> WanVAE:
    vae = build_vae(CONFIG)
    generator = torch.Generator().manual_seed(0)
    initialize_vae(vae, generator)
    for name, weight in vae.named_parameters():
        if name.endswith(('bias', 'gamma')):
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return vae.eval().requires_grad_(False)


VAE = build()
FRAMES = torch.rand(2, 3, 4 * LATENTS - 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
WHOLE, LAST = VAE.encode(FRAMES, None)
DECODED, DECODER_LAST = VAE.decode(WHOLE, None)


@pytest.fixture(scope='module')
def reference() -> torch.nn.Module:
    """The same weights in diffusers' own class, with its own cache."""
    from diffusers import AutoencoderKLWan

    model = AutoencoderKLWan(
        base_dim=8, decoder_base_dim=4, z_dim=6, dim_mult=[1, 2, 4, 4], num_res_blocks=1,
        temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
        scale_factor_spatial=16, scale_factor_temporal=4,
    )  # fmt: skip
    model.load_state_dict(VAE.state_dict())
    return model.eval().requires_grad_(False)


def statistics() -> tuple[Tensor, Tensor]:
    return torch.tensor(CONFIG.latents_mean).view(-1, 1, 1, 1), torch.tensor(CONFIG.latents_std).view(-1, 1, 1, 1)


def test_a_whole_clip_is_encoded_as_diffusers_does(reference: torch.nn.Module) -> None:
    mean, std = statistics()
    expected = (reference.encode(FRAMES).latent_dist.mean - mean) / std
    assert WHOLE.shape == (2, 6, LATENTS, 2, 3)
    torch.testing.assert_close(WHOLE, expected, rtol=1e-6, atol=1e-6)


def test_all_later_frames_in_one_pass_give_the_same_latents(reference: torch.nn.Module) -> None:
    """The released server runs the encoder once on all frames of a call, not once per latent."""
    mean, std = statistics()
    features: list = [None] * 100
    folded = fold(FRAMES, 2)
    first = reference.encoder(folded[:, :, :1], feat_cache=features, feat_idx=[0])
    rest = reference.encoder(folded[:, :, 1:], feat_cache=features, feat_idx=[0])
    expected = (reference.quant_conv(torch.cat([first, rest], dim=2)).chunk(2, dim=1)[0] - mean) / std
    torch.testing.assert_close(WHOLE, expected, rtol=1e-5, atol=1e-5)


def test_a_whole_clip_is_decoded_as_diffusers_does(reference: torch.nn.Module) -> None:
    mean, std = statistics()
    assert DECODED.shape == FRAMES.shape
    torch.testing.assert_close(DECODED, reference.decode(WHOLE * std + mean).sample, rtol=1e-5, atol=2e-5)


@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, LATENTS - 1)))
def test_streaming_equals_the_whole_clip_bit_by_bit(cuts: set[int]) -> None:
    encoded, decoded, state, decoder_state = [], [], None, None
    for begin, end in pairwise([0, *sorted(cuts), LATENTS]):
        latents, state = VAE.encode(FRAMES[:, :, max(0, 4 * begin - 3) : 4 * end - 3], state)
        images, decoder_state = VAE.decode(WHOLE[:, :, begin:end], decoder_state)
        encoded.append(latents)
        decoded.append(images)
    assert torch.equal(torch.cat(encoded, dim=2), WHOLE)
    assert torch.equal(torch.cat(decoded, dim=2), DECODED)
    assert all(torch.equal(a, b) for a, b in zip(state, LAST, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(decoder_state, DECODER_LAST, strict=True))


@settings(max_examples=5, deadline=None)
@given(others=st.lists(st.booleans(), min_size=1, max_size=3))
def test_streams_do_not_disturb_each_other(others: list[bool]) -> None:
    """A second stream, and restarts of it, between the steps of the first one."""
    state = other = None
    encoded = []
    for latent in range(LATENTS):
        latents, state = VAE.encode(FRAMES[:, :, max(0, 4 * latent - 3) : 4 * latent + 1], state)
        encoded.append(latents)
        for restart in others:
            other = None if restart else other
            clip = FRAMES.flip(2)[:, :, : 1 if other is None else 4]
            _, other = VAE.encode(clip, other)
    assert torch.equal(torch.cat(encoded, dim=2), WHOLE)


def test_a_state_is_a_snapshot_of_tensors() -> None:
    _, state = VAE.encode(FRAMES[:, :, :1], None)
    _, decoder_state = VAE.decode(WHOLE[:, :, :1], None)
    kept = [tensor.clone() for tensor in (*state, *decoder_state)]
    once, _ = VAE.encode(FRAMES[:, :, 1:9], state)
    images, _ = VAE.decode(WHOLE[:, :, 1:3], decoder_state)
    assert all(torch.equal(a, b) for a, b in zip(kept, (*state, *decoder_state), strict=True))
    assert torch.equal(VAE.encode(FRAMES[:, :, 1:9], tuple(kept[: len(state)]))[0], once)
    assert torch.equal(VAE.decode(WHOLE[:, :, 1:3], tuple(kept[len(state) :]))[0], images)


def test_a_state_does_not_share_memory_with_its_frames() -> None:
    frames = FRAMES[:, :, :1].clone()
    _, state = VAE.encode(frames, None)
    frames.zero_()
    assert torch.equal(VAE.encode(FRAMES[:, :, 1:5], state)[0], WHOLE[:, :, 1:2])


def test_a_state_of_other_streams_is_refused() -> None:
    with pytest.raises(VAEError, match='the state belongs to 2 streams'):
        VAE.encode(FRAMES[:1, :, 1:5], LAST)
    with pytest.raises(VAEError, match='the state belongs to 2 streams'):
        VAE.decode(WHOLE[:, :, :1, :, :2], DECODER_LAST)


@pytest.mark.parametrize(('count', 'started'), [(4, False), (0, False), (3, True), (1, True), (0, True)])
def test_a_wrong_number_of_frames_is_refused(count: int, started: bool) -> None:
    with pytest.raises(VAEError, match=f'{count} frames'):
        VAE.encode(FRAMES[:, :, :count], LAST if started else None)


def test_a_size_off_the_stride_is_refused() -> None:
    with pytest.raises(VAEError, match='24x48 pixels; give multiples of 16'):
        VAE.encode(FRAMES[:, :, :1, :24], None)


def test_folding_orders_channels_by_colour_column_row() -> None:
    frames = torch.arange(2 * 3 * 1 * 4 * 6).view(2, 3, 1, 4, 6)
    folded = fold(frames, 2)
    assert folded.shape == (2, 12, 1, 2, 3)
    for colour, column, row in np.ndindex(3, 2, 2):
        expected = frames[:, colour, :, row::2, column::2]
        assert torch.equal(folded[:, colour * 4 + column * 2 + row], expected)
    assert torch.equal(unfold(folded, 2), frames)


def test_the_weights_are_those_of_the_released_folder(reference: torch.nn.Module) -> None:
    with torch.device('meta'):
        vae = build_vae(CONFIG)
    assert vae.state_dict().keys() == reference.state_dict().keys()
    vae.load_state_dict(VAE.state_dict(), assign=True)
    assert torch.equal(vae.encode(FRAMES[:, :, :1], None)[0], WHOLE[:, :, :1])


def test_a_fresh_vae_depends_on_its_seed_alone() -> None:
    with torch.device('meta'):
        vae = build_vae(CONFIG)
    weights = []
    for garbage in (float('nan'), 1.0):
        vae.to_empty(device='cpu')
        for weight in vae.parameters():
            weight.data.fill_(garbage)
        initialize_vae(vae, torch.Generator().manual_seed(3))
        weights.append(torch.cat([weight.flatten().clone() for weight in vae.parameters()]))
    assert torch.equal(*weights)
    assert 0.3 < vae.encode(FRAMES, None)[0].std() < 3.0


def test_bf16_runs_and_stays_close() -> None:
    vae = build().to(torch.bfloat16)
    latents, _ = vae.encode(FRAMES, None)
    assert latents.dtype == torch.float32
    assert (latents - WHOLE).abs().max() < 0.1 * WHOLE.abs().max()


def noise(frames: int, cameras: int) -> list[list[np.ndarray]]:
    random = np.random.default_rng(0)
    return [[random.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(cameras)] for _ in range(frames)]


def test_streams_are_saved_and_go_on_from_the_file(tmp_path: Path) -> None:
    rollout = RolloutConfig(
        height=64, width=64, camera_layout='tshape', cameras=3, chunk_frames=1, actions_per_latent=1, video_steps=1,
        action_steps=1, attn_window=4,
    )  # fmt: skip
    images = noise(5, 3)
    encoder, decoder = StreamingEncoder(VAE, rollout), StreamingDecoder(VAE, rollout)
    first = encoder.encode(images[:1])
    decoder.decode(first)
    save_state(encoder.state, tmp_path / 'encoder')
    save_state(decoder.state, tmp_path / 'decoder')
    save_state(None, tmp_path / 'fresh')
    latents, expected = encoder.encode(images[1:]), decoder.decode(first)
    other, other_decoder = StreamingEncoder(VAE, rollout), StreamingDecoder(VAE, rollout)
    other.state, other_decoder.state = load_state(tmp_path / 'encoder'), load_state(tmp_path / 'decoder')
    assert torch.equal(other.encode(images[1:]), latents)
    assert np.array_equal(other_decoder.decode(first)[3][2], expected[3][2])
    assert load_state(tmp_path / 'fresh') is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ['decoder', 'encoder', 'fresh']


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'state').write_bytes(b'nonsense')
    save_file({'weight': torch.ones(1)}, tmp_path / 'other')
    for name in ('state', 'other', 'missing'):
        with pytest.raises(VAEError, match=f'{name} is not the saved state of a stream'):
            load_state(tmp_path / name)


@pytest.mark.parametrize(('layout', 'cameras'), [('width', 2), ('tshape', 3)])
def test_every_camera_is_encoded_and_decoded_as_if_it_were_alone(layout: str, cameras: int) -> None:
    rollout = RolloutConfig(
        height=64, width=64, camera_layout=layout, cameras=cameras, chunk_frames=1, actions_per_latent=1,
        video_steps=1, action_steps=1, attn_window=4,
    )  # fmt: skip
    images = noise(5, cameras)
    encoder, decoder = StreamingEncoder(VAE, rollout, cameras), StreamingDecoder(VAE, rollout, cameras)
    canvas = torch.cat([encoder.encode(images[:1]), encoder.encode(images[1:])])
    assert canvas.shape == ((2, 6, 6, 4) if layout == 'tshape' else (2, 6, 4, 8))
    decoded = decoder.decode(canvas[:1]) + decoder.decode(canvas[1:])
    for camera, view in enumerate(split(layout, canvas, cameras)):
        size = rollout.view_sizes[camera]
        pixels = to_pixels([frame[camera] for frame in images], size, torch.device('cpu'))
        alone, _ = VAE.encode(pixels.transpose(0, 1)[None], None)
        torch.testing.assert_close(view, alone[0].transpose(0, 1), rtol=1e-5, atol=1e-5)
        frames, _ = VAE.decode(alone, None)
        ours = np.stack([frame[camera] for frame in decoded]).astype(int)
        assert np.abs(ours - ((frames[0] + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()).max() <= 1
