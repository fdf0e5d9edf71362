"""Clips of episodes: what a forward of the training sees, drawn from data sets by weight.

Everything that is drawn follows from the seed, the step and the clip's place in it. There is no state to save, and the
same clips are drawn whatever the number of processes that share the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lingbot_va_core.sequence import even_chunks
from lingbot_va_core.training.settings import ClipSettings, TrainingError

TRAIN, HELD_OUT = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class TrainingEpisode:
    """One episode as the model sees it.

    Attributes:
        name: data set and number, for errors.
        latents: float [F, C, h, w], as perception streams them.
        starts: the same shape: what each frame is when an episode begins with it.
        labels: normalised actions of the noise-free expert, clipped, [F, n, 30]; those of frame 0 are zero.
        executed: normalised actions that were executed, of the same shape.
        used: channels in use, bool [30]; none for video without actions.
        instruction: its text.
        mistaken: frames in which the label differs from the command on purpose, bool [F]; they are history, but
            neither their video nor their actions are to be learned.
    """

    name: str
    latents: Tensor
    starts: Tensor
    labels: Tensor
    executed: Tensor
    used: Tensor
    instruction: str
    mistaken: Tensor


@dataclass(frozen=True)
class Plan:
    """What the clips of one forward have in common, so that they are computed together.

    Attributes:
        chunks: frames of each chunk.
        given: the first frame is given, as at an episode's start.
        fdm: the form of forward dynamics.
        window: largest distance of chunk ids that is attended to.
        predicted: of each frame, whether it is predicted.
    """

    chunks: tuple[int, ...]
    given: bool
    fdm: bool
    window: int | None
    predicted: tuple[bool, ...]


@dataclass(frozen=True)
class Clip:
    """Some frames of an episode; see `TrainingEpisode`. `seed` is that of its noise."""

    latents: Tensor
    labels: Tensor
    executed: Tensor
    used: Tensor
    text: Tensor
    seed: int
    mistaken: Tensor


class ClipSampler:
    """Draws clips.

    Args:
        sources: the episodes of each data set and its weight.
        texts: embedding of each instruction, and of '', float32 [length, dim].
        settings: what is cut out.
        seed: of everything that is drawn.
        start_anywhere: clips whose first frame is given may begin within an episode. That needs a VAE whose latents
            depend on nothing before the frame that precedes them; with any other they begin where an episode does.

    Raises:
        TrainingError: no episode is long enough, or a weight is negative.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Sequence[TrainingEpisode], float]],
        texts: dict[str, Tensor],
        settings: ClipSettings,
        seed: int,
        start_anywhere: bool = True,
    ) -> None:
        self._settings, self._texts, self._seed = settings, texts, seed
        self._start_anywhere = start_anywhere
        self._places: list[tuple[list[tuple[TrainingEpisode, np.ndarray]], np.ndarray]] = []
        weights = []
        for episodes, weight in sources:
            if weight < 0:
                raise TrainingError(f'a data set has the weight {weight}; it must not be negative')
            long = [episode for episode in episodes if len(episode.latents) >= settings.frames]
            if episodes and not long:
                longest = max(len(episode.latents) for episode in episodes)
                raise TrainingError(
                    f'{episodes[0].name}: no episode of its data set has clips.frames = {settings.frames} latent '
                    f'frames; the longest has {longest}'
                )
            places = [(episode, _starts(episode, settings.frames)) for episode in long]
            places = [(episode, starts) for episode, starts in places if len(starts)]
            if weight and places:
                self._places.append((places, np.cumsum([len(starts) for _, starts in places])))
                weights.append(weight)
        if not weights:
            raise TrainingError('there is nothing to train on: no episodes, all weights are 0, or all is mistaken')
        self._weights = np.array(weights) / sum(weights)

    def plan(self, stream: int, step: int, micro: int) -> Plan:
        """Draw what the clips of a forward have in common."""
        settings, random = self._settings, np.random.default_rng((self._seed, stream, step, micro))
        size = int(random.integers(settings.smallest_chunk, settings.largest_chunk + 1))
        given = bool(random.random() < settings.start_share)
        fdm = bool(random.random() < settings.fdm_share)
        head = int(random.integers(1, size + 1))
        window = int(random.integers(settings.window[0], settings.window[1] + 1)) if settings.window else None
        if given and not fdm:
            chunks, known = even_chunks(settings.frames, size), 1
        else:
            head = 1 if given else head  # forward dynamics begins when frame 0 is in the context
            chunks, known = [head, *even_chunks(settings.frames - head, size)], head
            if settings.first_chunk and not given:
                known = 0
        return Plan(tuple(chunks), given, fdm, window, tuple(i >= known for i in range(settings.frames)))

    def clip(self, plan: Plan, stream: int, step: int, micro: int, index: int) -> Clip:
        """Draw clip `index` of a forward."""
        settings, random = self._settings, np.random.default_rng((self._seed, stream, step, micro, index + 1))
        places, ends = self._places[random.choice(len(self._weights), p=self._weights)]
        if plan.given and not self._start_anywhere:
            episode, first = places[random.integers(len(places))][0], 0
        else:
            place = int(random.integers(ends[-1]))
            number = int(np.searchsorted(ends, place, side='right'))
            episode, starts = places[number]
            first = int(starts[place - (int(ends[number - 1]) if number else 0)])
            if settings.early_share and random.random() < settings.early_share:
                episode, starts = places[random.integers(len(places))]
                first = int(starts[random.integers(min(settings.early_frames, len(starts)))])
        span = slice(first, first + settings.frames)
        latents, labels, executed = (
            torch.as_tensor(x[span]).float().clone() for x in (episode.latents, episode.labels, episode.executed)
        )
        if plan.given:
            latents[0] = episode.starts[first]
            labels[0] = executed[0] = 0
        dropped = random.random() < settings.text_dropout
        text = self._texts['' if dropped else episode.instruction]
        seed = int(random.integers(2**62))
        return Clip(latents, labels, executed, episode.used, text, seed, episode.mistaken[span])


def _starts(episode: TrainingEpisode, frames: int) -> np.ndarray:
    """Return the frames at which clips begin in which there is something to learn behind their first frame."""
    learned = np.cumsum(~episode.mistaken.numpy())  # up to and with each frame
    return np.flatnonzero(learned[frames - 1 :] > learned[: len(learned) - frames + 1])


def split_episodes(count: int, share: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Divide episodes 0..count - 1 into those that are trained on and those held out, at least one of each if it can.

    Which ones are held out depends on the count and the seed alone.
    """
    held = min(max(round(share * count), 1 if share and count > 1 else 0), count - 1)
    order = np.random.default_rng((seed, count)).permutation(count)
    return sorted(order[held:].tolist()), sorted(order[:held].tolist())
