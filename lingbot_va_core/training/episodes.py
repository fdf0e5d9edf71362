"""Data sets as the training sees them: checked, encoded, normalised, and divided into trained and held-out episodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lingbot_va_core.action_statistics import ActionStatistics
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.datasets.checks import check
from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.normalization import TRAINING_CLIP, ActionNormalizer
from lingbot_va_core.poses import relative_actions
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.training.clips import TrainingEpisode, split_episodes
from lingbot_va_core.training.latent_cache import EpisodeLatents, cached_latents, content_key
from lingbot_va_core.training.settings import ClipSettings, TrainingError
from lingbot_va_core.world_model import WorldModel

JOINTS, GRIPPERS = slice(14, 28), slice(28, 30)


@dataclass(frozen=True)
class Source:
    """A data set of the mixture.

    Attributes:
        dataset: what is recorded.
        weight: in the mixture.
        normalizer: of its actions, shared by all data sets of the same robot and channels; None: it has none.
        relative_poses: the poses in its actions are made relative to the first one executed in the episode.
    """

    dataset: Dataset
    weight: float
    normalizer: ActionNormalizer | None
    relative_poses: bool = False


@dataclass(frozen=True)
class Mixture:
    """Episodes of several data sets, each with its weight.

    Attributes:
        trained, held_out: of each data set, in the order in which they were given.
        keys: of each data set, the hash of its content and of what encoded it.
    """

    trained: list[tuple[list[TrainingEpisode], float]]
    held_out: list[tuple[list[TrainingEpisode], float]]
    keys: tuple[str, ...]

    @property
    def instructions(self) -> list[str]:
        """All instructions, once each."""
        parts = [episode for episodes, _ in (*self.trained, *self.held_out) for episode in episodes]
        return list(dict.fromkeys(episode.instruction for episode in parts))


def open_sources(
    places: Sequence[tuple[Path, float]], settings: ClipSettings, quantiles: ActionNormalizer | None = None
) -> list[Source]:
    """Open and check data sets and take the quantiles of their executed actions.

    Data sets of one robot with the same channels share their quantiles, which are those of all their actions, so that
    an action means the same in each of them and in the checkpoint.

    Args:
        places: folder and weight of each.
        settings: how narrow a range of actions may be, and what poses are relative to.
        quantiles: in place of those of the first data set's robot.

    Raises:
        DatasetError: names the data set, the episode and the frame of the first problem.
        TrainingError: no data set is given, the first one has no actions, `quantiles` have other channels than it, or
            the clocks differ.
    """
    if not places:
        raise TrainingError('no data set is given; give at least one')
    datasets = [Dataset(path) for path, _ in places]
    check_clocks(datasets)
    for dataset in datasets:
        check(dataset)
    if not any(datasets[0].spec.mask):
        raise TrainingError(
            f'{datasets[0].root} has no actions; put a data set of the robot that the model is for first'
        )
    shared: dict[tuple[str, tuple[bool, ...]], ActionNormalizer] = {}
    if quantiles is not None:
        if quantiles.mask != datasets[0].spec.mask:
            raise TrainingError(
                f"{datasets[0].root} has other channels than the model's quantiles; train without --keep-quantiles"
            )
        shared[_body(datasets[0])] = quantiles
    for body in dict.fromkeys(_body(dataset) for dataset in datasets if any(dataset.spec.mask)):
        if body not in shared:
            shared[body] = _normalizer([dataset for dataset in datasets if _body(dataset) == body], settings)
    return [
        Source(dataset, weight, shared.get(_body(dataset)), settings.relative_poses)
        for dataset, (_, weight) in zip(datasets, places, strict=True)
    ]


def check_clocks(datasets: Sequence[Dataset]) -> None:
    """Raise TrainingError unless all data sets have one clock; a model knows no other unit of time."""
    first, *others = datasets
    for dataset in others:
        if dataset.spec.clock != first.spec.clock:
            ours, theirs = (
                f'{NANOSECONDS / clock.action_ns:g} actions and {NANOSECONDS / clock.video_ns:g} video frames a second'
                for clock in (dataset.spec.clock, first.spec.clock)
            )
            raise TrainingError(
                f'{dataset.root} has {ours}, but {first.root} {theirs}; train on data sets of one clock'
            )


def load_mixture(
    sources: Sequence[Source],
    model: WorldModel,
    cache: Path,
    holdout: float,
    progress: Callable[[str, int, int], None] | None = None,
) -> Mixture:
    """Encode what is not encoded yet, and divide the episodes."""
    trained, held_out, keys = [], [], []
    for source in sources:
        keys.append(content_key(source.dataset, model))
        latents = cached_latents(source.dataset, model, cache, progress, keys[-1])
        kept, left = split_episodes(len(source.dataset), holdout)
        for numbers, part in ((kept, trained), (left, held_out)):
            part.append(([_training_episode(source, source.dataset[i], latents[i]) for i in numbers], source.weight))
    return Mixture(trained, held_out, tuple(keys))


def mistaken_frames(episode: Episode) -> torch.Tensor:
    """Return which latent frames have a control period whose label differs from the command on purpose, bool [F].

    Raises:
        TrainingError: the episode's attribute `mistakes` holds no ranges of control periods.
    """
    count = episode.spec.clock.actions_per_latent
    frames = torch.zeros(episode.latent_frames + 1, dtype=torch.bool)
    ranges = episode.attributes.get('mistakes') or []
    try:
        for first, last in ranges:
            if not 0 <= first < last:
                raise ValueError
            frames[1 + first // count : 2 + (last - 1) // count] = True
    except (TypeError, ValueError):
        raise TrainingError(
            f'{episode}: mistakes is {ranges!r:.80}; it must be a list of ranges [first, last) of control periods'
        ) from None
    return frames


def _training_episode(source: Source, episode: Episode, latents: EpisodeLatents) -> TrainingEpisode:
    frames, count = len(latents.latents), episode.spec.clock.actions_per_latent
    labels, executed = (torch.zeros(frames, count, ACTION_DIM) for _ in range(2))
    used = torch.zeros(ACTION_DIM, dtype=torch.bool)
    if source.normalizer is not None:
        used = source.normalizer.used()
        for target, actions, clip in (
            (labels, episode.actions, TRAINING_CLIP),
            (executed, episode.executed, None),  # the history at inference is not clipped either
        ):
            rows = episode.latent_actions(_as_trained(episode, actions, source.relative_poses))
            target[1:] = source.normalizer.normalize(torch.from_numpy(rows.astype(np.float32)), clip=clip)
    mistaken = mistaken_frames(episode)
    return TrainingEpisode(
        str(episode), latents.latents, latents.starts, labels, executed, used, episode.instruction, mistaken
    )


def _as_trained(episode: Episode, actions: np.ndarray, relative_poses: bool) -> np.ndarray:
    """Make poses relative to the first one executed, as the action node anchors them where a task begins."""
    return relative_actions(actions, episode.spec.used, episode.executed[0]) if relative_poses else actions


def _body(dataset: Dataset) -> tuple[str, tuple[bool, ...]]:
    """Return whose actions mean the same."""
    return dataset.spec.robot, dataset.spec.mask


def _normalizer(datasets: Sequence[Dataset], settings: ClipSettings) -> ActionNormalizer:
    statistics = ActionStatistics(datasets[0].spec.used)
    for dataset in datasets:
        for episode in dataset:
            statistics.add(_as_trained(episode, episode.executed, settings.relative_poses))
    least = np.zeros(ACTION_DIM)
    least[JOINTS], least[GRIPPERS] = settings.min_range, settings.gripper_min_range
    return statistics.normalizer(least)
