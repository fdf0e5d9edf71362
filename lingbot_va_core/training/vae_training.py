"""Training of the tiny VAE on the views of data sets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingbot_va_core.canvas import to_images, to_pixels
from lingbot_va_core.checkpoint import save_checkpoint
from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.training.clips import HELD_OUT, TRAIN, split_episodes
from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.latent_cache import check_cameras
from lingbot_va_core.training.pictures import canvas_image, save_strip
from lingbot_va_core.training.settings import TrainingError, VAESettings
from lingbot_va_core.vae import TinyVAE
from lingbot_va_core.world_model import WorldModel

CALIBRATION = 64  # clips
PEAK = 2.0  # largest difference of two pixels, -1..1


@dataclass(frozen=True)
class EpisodeViews:
    """All frames of an episode as the model sees them: uint8 [T, 3, h, w] for each camera."""

    views: list[Tensor]

    @property
    def frames(self) -> int:
        """Number of video frames."""
        return len(self.views[0])


def load_views(
    datasets: Sequence[Dataset], model: WorldModel, progress: Callable[[str, int, int], None] | None = None
) -> list[list[EpisodeViews]]:
    """Decode all episodes of each data set into memory, at the size of the model's views.

    Raises:
        DatasetError: a video cannot be read.
        TrainingError: the cameras do not fit the model.
    """
    result = []
    for dataset in datasets:
        check_cameras(dataset, model)
        episodes = []
        for episode in dataset:
            episodes.append(_views(episode, model.config.rollout))
            if progress:
                progress('Frames', len(episodes), len(dataset))
        result.append(episodes)
    return result


class VAETask:
    """The VAE of a model as a `trainer.Task`.

    Views of one size are one forward, as at inference. Latents are not scaled during training; the checkpoint's are, to
    mean 0 and deviation 1 per channel over clips of the trained episodes.

    Args:
        model: its VAE is trained, in place.
        episodes: of each data set.
        settings: everything.
        world: the processes; one, as the VAE is small.
        trained: the transformer has learned something already.
        record: what is known of the run, see `run_record`.

    Raises:
        TrainingError: it is not a tiny VAE, or no episode is long enough.
    """

    name = 'reconstructed'
    terms = ('l1', 'l2', 'kl', 'psnr')

    def __init__(
        self,
        model: WorldModel,
        episodes: Sequence[Sequence[EpisodeViews]],
        settings: VAESettings,
        world: World,
        trained: bool = False,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model.vae, TinyVAE):
            raise TrainingError(f'the VAE of {model.config.name} is a released one, which is not trained here')
        if world.size > 1:
            raise TrainingError('the VAE is trained by one process; start it without torchrun')
        self._model, self._settings, self._world, self._model_is_trained = model, settings, world, trained
        self._record = record or {}
        parts: tuple[list[EpisodeViews], list[EpisodeViews]] = ([], [])
        for own in episodes:
            for numbers, part in zip(split_episodes(len(own), settings.loss.holdout), parts, strict=True):
                part.extend(own[i] for i in numbers if own[i].frames >= settings.loss.frames)
        self._trained, self._held_out = parts
        if not self._trained:
            raise TrainingError(f'no episode has loss.frames = {settings.loss.frames} video frames')
        sizes = model.config.rollout.view_sizes
        self._groups = [[i for i, s in enumerate(sizes) if s == size] for size in dict.fromkeys(sizes)]
        self._means = [_mean_image([e.views[camera] for e in self._trained]) for camera in range(len(sizes))]
        vae = model.vae.to(world.device, memory_format=torch.channels_last).train().requires_grad_(True)
        nn.init.zeros_(vae.latent_mean)
        nn.init.ones_(vae.latent_std)
        self.module: TinyVAE = vae

    def loss(self, step: int, micro: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `trainer.Task`."""
        return self._forward(self._trained, TRAIN, step, micro)

    def evaluate(self) -> dict[str, float]:
        """See `trainer.Task`."""
        if not self._held_out:
            return {}
        results = [self._forward(self._held_out, HELD_OUT, 0, i)[1] for i in range(self._settings.run.evaluate_batches)]
        means = {name: float(torch.stack([terms[name] for terms in results]).mean()) for name in self.terms}
        error = torch.stack([10.0 ** (-terms['psnr'] / 10.0) for terms in results]).mean()
        return {**means, 'psnr': -10.0 * math.log10(float(error))}

    def draw(self, path: Path, columns: int = 8) -> bool:
        """See `trainer.Task`: the middle frames of a held-out episode, real and reconstructed."""
        if not self._held_out:
            return False
        episode, rollout = self._held_out[0], self._model.config.rollout
        count = 1 + (episode.frames - 1) // 4 * 4
        shown = [round(i) for i in np.linspace(0, count - 1, columns)]
        real, ours = {}, {}
        for group in self._groups:
            pixels = _floats(torch.stack([episode.views[camera][:count] for camera in group])).transpose(1, 2)
            latents, _ = self.module.encode(pixels.to(self._world.device), None)
            images = to_images(self.module.decode(latents, None)[0].transpose(1, 2))
            for row, camera in enumerate(group):
                real[camera] = episode.views[camera].movedim(1, -1).numpy()
                ours[camera] = images[row]
        rows = [
            (caption, [canvas_image([images[camera][i] for camera in sorted(images)], rollout) for i in shown])
            for caption, images in (('real', real), ('reconstructed', ours))
        ]
        save_strip(path, rows)
        return True

    def export(self, folder: Path, outcome: Mapping[str, Any]) -> None:
        """See `trainer.Task`: the model with this VAE, its latents scaled.

        An untrained transformer is made for latents of no VAE in particular; with heads of zero, the first velocities
        of its training are zero instead.
        """
        self._calibrate()
        if not self._model_is_trained:
            transformer = self._model.transformer
            nn.init.zeros_(transformer.proj_out.weight), nn.init.zeros_(transformer.action_proj_out.weight)
        name = f'{self._model.config.name} (VAE trained for {self._settings.run.steps} steps)'
        training = (*self._model.training, {**self._record, **outcome})
        save_checkpoint(replace(self._model, name=name, training=training), folder)
        nn.init.zeros_(self.module.latent_mean)
        nn.init.ones_(self.module.latent_std)

    def _forward(self, episodes: list[EpisodeViews], stream: int, step: int, micro: int) -> tuple[Tensor, dict]:
        """Encode and decode a batch of clips; the loss and its terms, means over all pixels of the canvas."""
        settings, run = self._settings.loss, self._settings.run
        random = np.random.default_rng((run.seed, stream, step, micro))
        picks = [_pick(episodes, settings.frames, random) for _ in range(run.batch)]
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        totals: dict[str, Tensor] = {}
        pixels_in_all = sum(episodes[0].views[camera][0].numel() for group in self._groups for camera in group)
        for group in self._groups:
            clips = [
                episode.views[camera][first : first + settings.frames] for camera in group for episode, first in picks
            ]
            frames = _floats(torch.stack(clips)).transpose(1, 2).to(self._world.device)  # [B, 3, T, h, w]
            means = torch.stack([self._means[camera] for camera in group for _ in picks]).to(self._world.device)
            share = frames[0, :, 0].numel() * len(group) / pixels_in_all
            for name, value in self._terms(frames, means[:, :, None], generator).items():
                totals[name] = totals.get(name, 0.0) + share * value
        loss = settings.l1 * totals.pop('weighted_l1') + settings.l2 * totals.pop('weighted_l2')
        loss = loss + settings.kl * totals['kl']
        terms = {name: value.detach() for name, value in totals.items()}
        terms['psnr'] = 10.0 * torch.log10(PEAK**2 / terms['l2'])
        return loss, terms

    def _terms(self, frames: Tensor, means: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        settings, vae = self._settings.loss, self.module
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=self._settings.run.precision == 'bfloat16'):
            mean, log_variance, _ = vae.posterior(frames, None)
            mean, log_variance = mean.float(), log_variance.float().clamp(-20.0, 10.0)
            latents = mean
            if torch.is_grad_enabled():
                noise = torch.empty(mean.shape).normal_(generator=generator).to(mean.device)
                latents = mean + noise * torch.exp(0.5 * log_variance)
            decoded = vae.decode(latents, None)[0].float()
        moving = ((frames - means).abs().amax(dim=1, keepdim=True) > settings.threshold).float()
        weight = 1.0 + (settings.moving - 1.0) * moving
        weight = weight / weight.mean()
        difference = decoded - frames
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
        return {
            'weighted_l1': (difference.abs() * weight).mean(),
            'weighted_l2': (difference.square() * weight).mean(),
            'l1': difference.abs().mean(),
            'l2': difference.square().mean(),
            'kl': divergence.mean(),
        }

    @torch.no_grad()
    def _calibrate(self) -> None:
        """Scale the latents to mean 0 and deviation 1 per channel over clips of the trained episodes."""
        random = np.random.default_rng((self._settings.run.seed, HELD_OUT + 1))
        sums = torch.zeros(3, self.module.latent_channels, dtype=torch.float64)
        for _ in range(CALIBRATION):
            episode, first = _pick(self._trained, self._settings.loss.frames, random)
            for group in self._groups:
                clips = torch.stack([episode.views[i][first : first + self._settings.loss.frames] for i in group])
                mean, _, _ = self.module.posterior(_floats(clips).transpose(1, 2).to(self._world.device), None)
                values = mean.double().cpu().transpose(0, 1).flatten(1)
                sums += torch.stack(
                    [torch.full_like(values[:, 0], values.shape[1]), values.sum(1), values.square().sum(1)]
                )
        average = sums[1] / sums[0]
        deviation = (sums[2] / sums[0] - average.square()).clamp_min(1e-6).sqrt()
        self.module.latent_mean.copy_(average)
        self.module.latent_std.copy_(deviation)


def _views(episode: Episode, rollout: RolloutConfig) -> EpisodeViews:
    views = []
    for camera, size in zip(episode.spec.cameras, rollout.view_sizes, strict=True):
        images = list(episode.video(camera.name))
        if images[0].shape[:2] == size:
            views.append(torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous())
        else:
            pixels = to_pixels(images, size, torch.device('cpu'))
            views.append(pixels.add(1.0).mul(127.5).round().to(torch.uint8))
    return EpisodeViews(views)


def _pick(episodes: list[EpisodeViews], frames: int, random: np.random.Generator) -> tuple[EpisodeViews, int]:
    episode = episodes[int(random.integers(len(episodes)))]
    return episode, int(random.integers(episode.frames - frames + 1))


def _floats(images: Tensor) -> Tensor:
    """Map uint8 to -1..1."""
    return images.float().div_(127.5).sub_(1.0)


def _mean_image(videos: Sequence[Tensor]) -> Tensor:
    """Average all frames of a camera, float [3, h, w] in -1..1."""
    total = sum(F.adaptive_avg_pool3d(video.float().transpose(0, 1), (1, *video.shape[2:]))[:, 0] for video in videos)
    return total / len(videos) / 127.5 - 1.0
