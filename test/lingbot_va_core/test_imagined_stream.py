"""Imagined latent frames as images, while real ones come."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.imagined_stream import ImaginedStream
from lingbot_va_core.streaming import StreamingDecoder


@pytest.fixture
def decoder(tiny: WorldModel) -> StreamingDecoder:
    return StreamingDecoder(tiny.vae, tiny.config.rollout)


@pytest.fixture
def latents(tiny: WorldModel) -> Tensor:
    return torch.randn((8, *tiny.config.latent_shape), generator=torch.Generator().manual_seed(0))


def images_after(decoder: StreamingDecoder, *latents: Tensor) -> list[list[np.ndarray]]:
    """The images of the last of these frames, decoded in one go."""
    decoder.reset()
    return decoder.decode(torch.stack(latents))[-4:]


def same(one: list[list[np.ndarray]], other: list[list[np.ndarray]]) -> bool:
    return len(one) == len(other) and all(
        np.abs(a.astype(int) - b.astype(int)).max() <= 1
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def test_an_imagined_frame_follows_what_was_seen_and_then_imagined(
    tiny: WorldModel, decoder: StreamingDecoder, latents: Tensor
) -> None:
    reference = StreamingDecoder(tiny.vae, tiny.config.rollout)
    stream = ImaginedStream(decoder)
    real, imagined = latents[:4], latents[4:]
    stream.observe(0, real[0])
    assert same(stream.imagine(1, imagined[0]), images_after(reference, real[0], imagined[0]))
    assert same(stream.imagine(2, imagined[1]), images_after(reference, real[0], *imagined[:2]))
    stream.observe(1, real[1])  # 2 is not known yet when the next chunk comes
    assert same(stream.imagine(3, imagined[2]), images_after(reference, *real[:2], imagined[1], imagined[2]))
    stream.observe(2, real[2])
    stream.observe(3, real[3])
    seen = stream.imagine(4, imagined[3])
    assert same(seen, images_after(reference, *real, imagined[3]))
    assert not same(seen, images_after(reference, *imagined))


def test_nothing_is_decoded_for_nobody_and_whoever_comes_later_sees_the_newest_frame_continued(
    tiny: WorldModel, decoder: StreamingDecoder, latents: Tensor
) -> None:
    reference = StreamingDecoder(tiny.vae, tiny.config.rollout)
    stream = ImaginedStream(decoder)
    for index in range(3):
        stream.observe(index, latents[index])
        assert stream.imagine(index + 1, latents[7], wanted=False) == []
    assert decoder.state is None
    assert same(stream.imagine(3, latents[4]), images_after(reference, latents[2], latents[4]))


def test_another_episode_begins_without_a_past(decoder: StreamingDecoder, latents: Tensor) -> None:
    stream = ImaginedStream(decoder)
    stream.observe(0, latents[0])
    first = stream.imagine(1, latents[1])
    stream.imagine(2, latents[2])
    stream.reset()
    stream.observe(0, latents[0])
    assert same(stream.imagine(1, latents[1]), first)
    stream.reset()
    assert len(stream.imagine(1, latents[1])) == 1
