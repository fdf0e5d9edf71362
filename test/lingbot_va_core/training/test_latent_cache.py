"""Latents are those of perception, and are computed once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.training import latent_cache
from lingbot_va_core.training.latent_cache import cached_latents
from lingbot_va_core.training.settings import TrainingError


def test_latents_are_those_of_perception_bit_by_bit(small: WorldModel, demonstrations: Dataset, cache: Path) -> None:
    [stored, *_] = cached_latents(demonstrations, small, cache)
    episode, encoder = demonstrations[0], StreamingEncoder(small.vae, small.config.rollout)
    views = [episode.images(view.name) for view in episode.spec.cameras]
    frames = list(zip(*views, strict=True))
    streamed = [encoder.encode(frames[:1])]
    streamed += [encoder.encode(frames[i : i + 4]) for i in range(1, len(frames), 4)]
    assert torch.equal(stored.latents, torch.cat(streamed)) and len(stored.latents) == 9
    encoder.reset()
    assert torch.equal(stored.starts[3], encoder.encode(frames[12:13])[0])
    assert torch.equal(stored.starts[0], stored.latents[0])


def test_what_is_known_is_not_encoded_again(
    small: WorldModel, demonstrations: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = latent_cache.encode_episode
    monkeypatch.setattr(
        latent_cache, 'encode_episode', lambda episode, model: encoded.append(episode.index) or encode(episode, model)
    )
    cached_latents(demonstrations, small, tmp_path)
    cached_latents(demonstrations, small, tmp_path)
    assert encoded == [0, 1, 2]
    [broken, *_] = sorted(tmp_path.rglob('*.safetensors'))
    broken.write_bytes(broken.read_bytes()[:100])  # as a full disk may leave it
    assert len(cached_latents(demonstrations, small, tmp_path)[0].latents) == 9
    assert encoded == [0, 1, 2, 0]


def test_another_vae_and_other_data_have_latents_of_their_own(
    small: WorldModel, demonstrations: Dataset, tmp_path: Path
) -> None:
    [before, *_] = cached_latents(demonstrations, small, tmp_path / 'cache')
    with torch.no_grad():
        small.vae.latent_mean.add_(1.0)
    [shifted, *_] = cached_latents(demonstrations, small, tmp_path / 'cache')
    assert not np.allclose(before.latents, shifted.latents)
    shutil.copytree(demonstrations.root, tmp_path / 'copy')
    cached_latents(Dataset(tmp_path / 'copy'), small, tmp_path / 'cache')
    assert len(list((tmp_path / 'cache').iterdir())) == 2  # the same content elsewhere is known
    (tmp_path / 'copy' / 'meta' / 'note').write_text('changed')
    cached_latents(Dataset(tmp_path / 'copy'), small, tmp_path / 'cache')
    assert len(list((tmp_path / 'cache').iterdir())) == 3


def test_cameras_that_the_model_does_not_have_are_refused(
    small: WorldModel, demonstrations: Dataset, tmp_path: Path
) -> None:
    from dataclasses import replace

    config = replace(small.config, rollout=replace(small.config.rollout, camera_layout='width'))
    with pytest.raises(TrainingError, match=r"3 cameras in layout 'tshape', but the model 3 in 'width'"):
        cached_latents(demonstrations, replace(small, config=config), tmp_path)
