"""Cameras to canvas latents and back."""

import numpy as np
import pytest
import torch

from lingbot_va_core.canvas import CanvasError, split, to_pixels
from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.streaming import StreamingDecoder, StreamingEncoder
from lingbot_va_core.vae import VAEError

Images = list[list[np.ndarray]]


@pytest.fixture
def encoder(tiny: WorldModel) -> StreamingEncoder:
    return StreamingEncoder(tiny.vae, tiny.config.rollout, 3)


def test_calls_of_any_length_give_the_same_latents(encoder: StreamingEncoder, images: Images) -> None:
    steps = [encoder.encode(images[:1])] + [encoder.encode(images[i : i + 4]) for i in (1, 5, 9)]
    encoder.reset()
    whole = [encoder.encode(images[:1]), encoder.encode(images[1:13])]
    assert [len(latents) for latents in steps] == [1, 1, 1, 1]
    assert whole[1].shape == (3, 24, 6, 6)
    assert whole[1].dtype == torch.float32
    torch.testing.assert_close(torch.cat(steps), torch.cat(whole), rtol=1e-4, atol=1e-5)


def test_every_camera_is_encoded_as_if_it_were_alone(
    tiny: WorldModel, encoder: StreamingEncoder, images: Images
) -> None:
    canvas = torch.cat([encoder.encode(images[:1]), encoder.encode(images[1:5])])
    for camera, view in enumerate(split('tshape', canvas, 3)):
        size = tiny.config.rollout.view_sizes[camera]
        pixels = to_pixels([frame[camera] for frame in images[:5]], size, torch.device('cpu'))
        alone, _ = tiny.vae.encode(pixels.transpose(0, 1)[None], None)
        torch.testing.assert_close(view, alone[0].transpose(0, 1), rtol=1e-4, atol=1e-5)


def test_a_saved_state_goes_back_in_time(encoder: StreamingEncoder, images: Images) -> None:
    encoder.encode(images[:1])
    state = encoder.state
    first = encoder.encode(images[1:5])
    encoder.encode(images[5:9])
    encoder.state = state
    assert torch.equal(encoder.encode(images[1:5]), first)


def test_cameras_may_differ_in_image_size(encoder: StreamingEncoder, images: Images) -> None:
    frame = [images[0][0], images[0][1][:60, :80], images[0][2][:50]]
    assert encoder.encode([frame]).shape == (1, 24, 6, 6)


def test_a_refused_call_leaves_the_state_alone(encoder: StreamingEncoder, images: Images) -> None:
    encoder.encode(images[:1])
    state = encoder.state
    with pytest.raises(VAEError, match='3 frames; give a multiple of 4'):
        encoder.encode(images[1:4])
    with pytest.raises(CanvasError, match='2 images; give one for each of 3'):
        encoder.encode([frame[:2] for frame in images[1:5]])
    assert encoder.state is state


def test_a_model_for_another_number_of_cameras_is_refused(tiny: WorldModel) -> None:
    with pytest.raises(CanvasError, match='2 cameras were given, but the model was made for 3'):
        StreamingEncoder(tiny.vae, tiny.config.rollout, 2)


def test_decoding_step_by_step_gives_the_images_of_the_whole_clip(
    tiny: WorldModel, encoder: StreamingEncoder, images: Images
) -> None:
    latents = torch.cat([encoder.encode(images[:1]), encoder.encode(images[1:9])])
    decoder = StreamingDecoder(tiny.vae, tiny.config.rollout, 3)
    whole = decoder.decode(latents)
    decoder.reset()
    steps = [frame for latent in latents for frame in decoder.decode(latent[None])]
    assert len(whole) == len(steps) == 9
    for one, other in zip(whole, steps, strict=True):
        assert [image.shape for image in one] == [(64, 96, 3), (32, 48, 3), (32, 48, 3)]
        assert all(image.dtype == np.uint8 for image in one)
        assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in zip(one, other, strict=True))
