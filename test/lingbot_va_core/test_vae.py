"""The tiny VAE: streaming equals the whole clip, and nothing looks ahead."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.config import VAEConfig
from lingbot_va_core.initialization import initialize_vae
from lingbot_va_core.vae import TinyVAE, VAEError


def build() -> TinyVAE:
    vae = TinyVAE(VAEConfig(kind='tiny', latent_channels=6, widths=(16, 24, 32)))
    initialize_vae(vae, torch.Generator().manual_seed(0))
    return vae.requires_grad_(False)


VAE = build()
FRAMES = torch.rand(2, 3, 17, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
WHOLE, _ = VAE.encode(FRAMES, None)
DECODED, _ = VAE.decode(WHOLE, None)


def test_shapes() -> None:
    assert WHOLE.shape == (2, 6, 5, 2, 3)
    assert DECODED.shape == FRAMES.shape


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 4)))
def test_streaming_equals_the_whole_clip(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), 5]
    encoded, decoded, state, decoder_state = [], [], None, None
    for begin, end in pairwise(edges):
        frames = FRAMES[:, :, max(0, 4 * begin - 3) : 4 * end - 3]
        latents, state = VAE.encode(frames, state)
        images, decoder_state = VAE.decode(WHOLE[:, :, begin:end], decoder_state)
        encoded.append(latents)
        decoded.append(images)
    torch.testing.assert_close(torch.cat(encoded, dim=2), WHOLE, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat(decoded, dim=2), DECODED, rtol=1e-5, atol=1e-5)


def test_a_state_is_a_snapshot() -> None:
    _, state = VAE.encode(FRAMES[:, :, :1], None)
    once, _ = VAE.encode(FRAMES[:, :, 1:9], state)
    VAE.encode(FRAMES[:, :, 9:17], state)
    again, _ = VAE.encode(FRAMES[:, :, 1:9], state)
    assert torch.equal(once, again)


def test_a_state_does_not_share_memory_with_its_frames() -> None:
    frames = FRAMES[:, :, :1].clone()
    _, state = VAE.encode(frames, None)
    expected, _ = VAE.encode(FRAMES[:, :, 1:5], state)
    frames.zero_()
    assert torch.equal(VAE.encode(FRAMES[:, :, 1:5], state)[0], expected)


@pytest.mark.parametrize('changed', [5, 8])
def test_a_latent_sees_its_four_frames_and_the_one_before(changed: int) -> None:
    frames = FRAMES.clone()
    frames[:, :, changed] += 0.5
    latents, _ = VAE.encode(frames, None)
    differs = [not torch.allclose(latents[:, :, i], WHOLE[:, :, i], atol=1e-5) for i in range(5)]
    assert differs == ([False, False, True, False, False] if changed == 5 else [False, False, True, True, False])


def test_latents_of_a_fresh_model_have_about_unit_scale() -> None:
    smooth = torch.nn.functional.interpolate(FRAMES[:, :, :9, ::8, ::8], size=(9, 64, 64), mode='trilinear')
    latents, _ = VAE.encode(smooth, None)
    assert 0.3 < latents.std() < 3.0


@pytest.mark.parametrize(('count', 'started'), [(4, False), (0, False), (3, True), (1, True), (0, True)])
def test_a_wrong_number_of_frames_is_refused(count: int, started: bool) -> None:
    state = VAE.encode(FRAMES[:, :, :1], None)[1] if started else None
    with pytest.raises(VAEError, match=f'{count} frames'):
        VAE.encode(FRAMES[:, :, :count], state)


def test_a_size_off_the_stride_is_refused() -> None:
    with pytest.raises(VAEError, match='20x48 pixels; give multiples of 16'):
        VAE.encode(FRAMES[:, :, :1, :20], None)
