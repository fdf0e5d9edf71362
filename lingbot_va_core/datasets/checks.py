"""Looks for what would spoil a training before it starts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.datasets import tables
from lingbot_va_core.datasets.layout import SIGNALS, DatasetError
from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.datasets.video import frame_stamps
from lingbot_va_core.robot import ACTION_DIM


@dataclass(frozen=True)
class Problem:
    """What is wrong, in which episode, from which frame on; `frame` is None where it concerns all of them."""

    episode: int
    frame: int | None
    what: str

    def __str__(self) -> str:
        where = f'episode {self.episode}' + ('' if self.frame is None else f', frame {self.frame}')
        return f'{where}: {self.what}'


def check(dataset: Dataset) -> None:
    """Raise DatasetError with the first problem and the number of the others, if there is any."""
    problems = list(find_problems(dataset))
    if problems:
        others = f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''
        raise DatasetError(f'{dataset.root}: {problems[0]}{others}; record it again or leave the episode out')


def find_problems(dataset: Dataset) -> Iterator[Problem]:
    """Yield the problems of all episodes.

    Videos are not decoded, only their sizes and the instants of their frames are looked at, which takes a few
    milliseconds for an episode.
    """
    for episode in dataset:
        if episode.frames < 1 + VIDEO_FRAMES_PER_LATENT:
            yield Problem(
                episode.index,
                None,
                f'it has {episode.frames} video frames; a latent frame takes {1 + VIDEO_FRAMES_PER_LATENT}',
            )
            continue
        try:
            yield from _signal_problems(episode)
        except DatasetError as error:
            yield Problem(episode.index, None, str(error))
        for view in episode.spec.cameras:
            try:
                yield from _video_problems(episode, view.name)
            except DatasetError as error:
                yield Problem(episode.index, None, f'the video of {view.name} cannot be used: {error}')


def _signal_problems(episode: Episode) -> Iterator[Problem]:
    table, spec = episode.table, episode.spec
    missing = [name for name in (*SIGNALS, 'timestamp') if name not in table.column_names]
    if missing:
        yield Problem(episode.index, None, f'it has no {", ".join(missing)}')
        return
    if len(table) != episode.frames:
        yield Problem(episode.index, min(len(table), episode.frames), f'{len(table)} rows for {episode.frames} frames')
        return
    stamps = tables.values(table, 'timestamp', ()).astype(np.float64)
    wrong = np.flatnonzero(np.abs(stamps - np.arange(len(stamps)) / spec.fps) > 1e-3)
    if len(wrong):
        frame = int(wrong[0])
        yield Problem(
            episode.index, frame, f'it is at {stamps[frame]:.3f} s; at {spec.fps:g} Hz {frame / spec.fps:.3f} s is due'
        )
    for name in SIGNALS:
        values = tables.values(table, name, (spec.steps, ACTION_DIM))
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            frame, _, channel = bad[0].tolist()
            yield Problem(episode.index, frame, f'{name} is {values[tuple(bad[0])]} in channel {channel}')


def _video_problems(episode: Episode, camera: str) -> Iterator[Problem]:
    view = next(view for view in episode.spec.cameras if view.name == camera)
    size, stamps = frame_stamps(episode.video_file(camera))
    if size != (view.width, view.height):
        yield Problem(
            episode.index,
            None,
            f'{camera} has {size[0]} x {size[1]} pixels, but {view.width} x {view.height} were announced',
        )
    period, start = episode.spec.clock.video_ns, episode.video_start_ns(camera)
    own = stamps[(stamps >= start - period // 2) & (stamps < start + episode.frames * period - period // 2)]
    due = start + period * np.arange(episode.frames)
    common = min(len(own), len(due))
    wrong = np.flatnonzero(np.abs(own[:common] - due[:common]) > period // 4)
    if len(wrong):
        frame = int(wrong[0])
        yield Problem(
            episode.index,
            frame,
            f'{camera} has a frame at {own[frame] / 1e9:.3f} s where {due[frame] / 1e9:.3f} s is due: one is missing, '
            f'or its rate is not {episode.spec.fps:g} Hz',
        )
    elif common < episode.frames:
        yield Problem(episode.index, common, f'{camera} has {common} frames of {episode.frames}')
