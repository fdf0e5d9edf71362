"""Data sets as the training sees them: checked, encoded, normalised, and divided into trained and held-out episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lingbot_va_core.action_statistics import ActionStatistics
from lingbot_va_core.datasets.checks import check
from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.normalization import TRAINING_CLIP, ActionNormalizer
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.training.clips import TrainingEpisode, split_episodes
from lingbot_va_core.training.latent_cache import EpisodeLatents, cached_latents
from lingbot_va_core.training.settings import ClipSettings, TrainingError
from lingbot_va_core.world_model import WorldModel

JOINTS, GRIPPERS = slice(14, 28), slice(28, 30)


@dataclass(frozen=True)
class Source:
    """A data set with its weight in the mixture, and how its actions are normalised (None: it has none)."""

    dataset: Dataset
    weight: float
    normalizer: ActionNormalizer | None


@dataclass(frozen=True)
class Mixture:
    """Episodes of several data sets, each with its weight."""

    trained: list[tuple[list[TrainingEpisode], float]]
    held_out: list[tuple[list[TrainingEpisode], float]]

    @property
    def instructions(self) -> list[str]:
        """All instructions, once each."""
        parts = [episode for episodes, _ in (*self.trained, *self.held_out) for episode in episodes]
        return list(dict.fromkeys(episode.instruction for episode in parts))


def open_sources(
    places: Sequence[tuple[Path, float]], settings: ClipSettings, quantiles: ActionNormalizer | None = None
) -> list[Source]:
    """Open and check data sets and take the quantiles of their executed actions.

    Args:
        places: folder and weight of each.
        settings: how narrow a range of actions may be.
        quantiles: in place of those of every data set that uses the same channels.

    Raises:
        DatasetError: names the data set, the episode and the frame of the first problem.
        TrainingError: no data set has actions, or the first one has none.
    """
    if not places:
        raise TrainingError('no data set is given; give at least one')
    sources = []
    for path, weight in places:
        dataset = Dataset(path)
        check(dataset)
        sources.append(Source(dataset, weight, _normalizer(dataset, settings, quantiles)))
    if sources[0].normalizer is None:
        raise TrainingError(
            f'{sources[0].dataset.root} has no actions; put a data set of the robot that the model is for first'
        )
    return sources


def load_mixture(
    sources: Sequence[Source],
    model: WorldModel,
    cache: Path,
    holdout: float,
    progress: Callable[[str, int, int], None] | None = None,
) -> Mixture:
    """Encode what is not encoded yet, and divide the episodes."""
    trained, held_out = [], []
    for source in sources:
        latents = cached_latents(source.dataset, model, cache, progress)
        kept, left = split_episodes(len(source.dataset), holdout)
        for numbers, part in ((kept, trained), (left, held_out)):
            episodes = [_training_episode(source.dataset[i], latents[i], source.normalizer) for i in numbers]
            part.append((episodes, source.weight))
    return Mixture(trained, held_out)


def _training_episode(
    episode: Episode, latents: EpisodeLatents, normalizer: ActionNormalizer | None
) -> TrainingEpisode:
    frames, count = len(latents.latents), episode.spec.clock.actions_per_latent
    labels, executed = (torch.zeros(frames, count, ACTION_DIM) for _ in range(2))
    if normalizer is not None:
        for target, actions, clip in (
            (labels, episode.actions, TRAINING_CLIP),
            (executed, episode.executed, None),  # the history at inference is not clipped either
        ):
            rows = torch.from_numpy(episode.latent_actions(actions).astype(np.float32))
            target[1:] = normalizer.normalize(rows, clip=clip)
    used = torch.zeros(ACTION_DIM, dtype=torch.bool) if normalizer is None else normalizer.used()
    return TrainingEpisode(str(episode), latents.latents, latents.starts, labels, executed, used, episode.instruction)


def _normalizer(
    dataset: Dataset, settings: ClipSettings, quantiles: ActionNormalizer | None
) -> ActionNormalizer | None:
    if not any(dataset.spec.mask):
        return None
    if quantiles is not None and quantiles.mask == dataset.spec.mask:
        return quantiles
    statistics = ActionStatistics(dataset.spec.used)
    for episode in dataset:
        statistics.add(episode.executed)
    least = np.zeros(ACTION_DIM)
    least[JOINTS], least[GRIPPERS] = settings.min_range, settings.gripper_min_range
    return statistics.normalizer(least)
