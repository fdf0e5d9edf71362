"""Latents of data sets, encoded once for each content and VAE, exactly as perception streams them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT as FRAMES
from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.training.settings import TrainingError
from lingbot_va_core.world_model import WorldModel

VERSION = b'1'  # of what is stored; another one makes old files unused


@dataclass(frozen=True)
class EpisodeLatents:
    """One episode, float32 [F, C, h, w], mapped from a file.

    Attributes:
        latents: as perception streams them.
        starts: each frame as the first one of an episode: the last of its images, encoded on its own.
    """

    latents: Tensor
    starts: Tensor


def default_cache() -> Path:
    """Return the folder that latents are kept in: lingbot_va/latents under XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'lingbot_va' / 'latents'


def cached_latents(
    dataset: Dataset,
    model: WorldModel,
    cache: Path,
    progress: Callable[[str, int, int], None] | None = None,
    key: str | None = None,
) -> list[EpisodeLatents]:
    """Return the latents of all episodes; what is not in the cache is encoded.

    Args:
        dataset: whose files' content is part of the key.
        model: its VAE and the layout of its views are the rest of the key.
        cache: folder, shared by all data sets and models.
        progress: called with what is done, the number of episodes done and of all.
        key: that of `content_key`, where it is known.

    Raises:
        DatasetError: a video cannot be read.
        TrainingError: the cameras do not fit the model, or the cache cannot be written.
    """
    check_cameras(dataset, model)
    folder = cache / (key or content_key(dataset, model))
    folder.mkdir(parents=True, exist_ok=True)
    result = []
    for number, episode in enumerate(dataset):
        path = folder / f'episode-{episode.index:06}.safetensors'
        found = _load(path)
        if found is None:
            _save(encode_episode(episode, model), path)
            found = _load(path)
            if found is None:
                raise TrainingError(f'{path} cannot be read back; is the disk full?')
        result.append(found)
        if progress:
            progress('Latents', number + 1, len(dataset))
    return result


def encode_episode(episode: Episode, model: WorldModel) -> EpisodeLatents:
    """Encode an episode as perception does: frame 0 alone, then four frames at a time."""
    stream, single = (StreamingEncoder(model.vae, model.config.rollout, device=model.device) for _ in range(2))
    latents, starts = [], []
    for frames in grouped(episode):
        latents.append(stream.encode(frames))
        single.reset()
        starts.append(single.encode(frames[-1:]))
    return EpisodeLatents(torch.cat(latents), torch.cat(starts))


def grouped(episode: Episode) -> Iterator[list[list[np.ndarray]]]:
    """Yield the images of each latent frame, `frames[time][camera]`: one at first, then four."""
    videos = [episode.video(view.name) for view in episode.spec.cameras]
    group: list[list[np.ndarray]] = []
    for number, images in enumerate(zip(*videos, strict=True)):
        group.append(list(images))
        if number % FRAMES == 0:
            yield group
            group = []


def add_weights(digest: 'hashlib._Hash', module: torch.nn.Module) -> None:
    """Add the names and values of all weights of a module to a hash."""
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())


def weights_key(model: WorldModel) -> str:
    """Return the hash of the weights of transformer and VAE."""
    digest = hashlib.sha256()
    for module in (model.transformer, model.vae):
        add_weights(digest, module)
    return digest.hexdigest()[:32]


def check_cameras(dataset: Dataset, model: WorldModel) -> None:
    """Raise TrainingError unless the views of a data set are those of the model."""
    spec, rollout = dataset.spec, model.config.rollout
    ours, theirs = (rollout.camera_layout, rollout.cameras), (spec.camera_layout, len(spec.cameras))
    if ours != theirs:
        raise TrainingError(
            f"{dataset.root} has {theirs[1]} cameras in layout '{theirs[0]}', but the model {ours[1]} in '{ours[0]}'"
        )
    if spec.clock.actions_per_latent != rollout.actions_per_latent:
        raise TrainingError(
            f'{dataset.root} has {spec.clock.actions_per_latent} actions per latent frame, but the model '
            f'{rollout.actions_per_latent}'
        )


def content_key(dataset: Dataset, model: WorldModel) -> str:
    """Return the hash of the content of all files of a data set, of the VAE's weights and of the views."""
    digest = hashlib.sha256(VERSION)
    for path in sorted(path for path in dataset.root.rglob('*') if path.is_file()):
        digest.update(path.relative_to(dataset.root).as_posix().encode())
        with path.open('rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    add_weights(digest, model.vae)
    rollout = model.config.rollout
    digest.update(repr((rollout.camera_layout, rollout.view_sizes, [v.name for v in dataset.spec.cameras])).encode())
    return digest.hexdigest()[:32]


def _load(path: Path) -> EpisodeLatents | None:
    try:
        tensors = load_file(path)  # mapped, not read
        return EpisodeLatents(tensors['latents'], tensors['starts'])
    except (SafetensorError, OSError, KeyError):
        return None


def _save(episode: EpisodeLatents, path: Path) -> None:
    """Write a file whole or not at all."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix='.') as scratch:
            fresh = Path(scratch) / path.name
            save_file({'latents': episode.latents.contiguous(), 'starts': episode.starts.contiguous()}, fresh)
            fresh.replace(path)
    except OSError as error:
        raise TrainingError(f'{path} cannot be written: {error}; choose another cache') from error
