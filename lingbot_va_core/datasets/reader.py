"""Reads a data set episode by episode."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.datasets import tables
from lingbot_va_core.datasets.layout import (
    ACTION,
    DATA_PATH,
    EXECUTED,
    INFO,
    SPEC,
    STATE,
    VERSION,
    VIDEO_PATH,
    DatasetError,
    DatasetSpec,
    View,
    image_key,
    latent_frames,
)
from lingbot_va_core.datasets.video import read_frames
from lingbot_va_core.robot import ACTION_DIM


class Dataset:
    """A data set on disk. Opening it reads the table of episodes; everything else is read when it is asked for.

    Attributes:
        root: its folder.
        spec: robot, clock, channels in use and cameras of all episodes.
    """

    def __init__(self, root: Path | str) -> None:
        """Open a data set.

        Raises:
            DatasetError: it is none, or not of this project.
        """
        self.root = Path(root)
        info = _read_json(self.root / INFO, f'{self.root} is not a data set')
        if info.get('codebase_version') != VERSION:
            raise DatasetError(f'{self.root} has the format {info.get("codebase_version")}; {VERSION} is supported')
        source = self.root / SPEC
        self.spec = DatasetSpec.from_dict(
            _read_json(source, f'{self.root} was not written by this project: which channels its actions have, and '
                       'when they are due, is unknown'), source)  # fmt: skip
        if abs(info.get('fps', 0) - self.spec.fps) > 1e-3:
            raise DatasetError(f'{self.root}: fps is {info.get("fps")}, but its clock has {self.spec.fps:g}')
        try:
            paths = sorted((self.root / 'meta' / 'episodes').glob('*/*.parquet'))
            wanted = [name for name in pq.read_schema(paths[0]).names if not name.startswith('stats/')]
            self._rows = [row for path in paths for row in pq.read_table(path, columns=wanted).to_pylist()]
        except (OSError, pa.ArrowException, IndexError) as error:
            raise DatasetError(f'{self.root}: the table of episodes cannot be read: {error}') from error
        if not self._rows:
            raise DatasetError(f'{self.root} has no episode')

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> 'Episode':
        """Return an episode by its index, without reading it."""
        if not 0 <= index < len(self):
            raise IndexError(f'episode {index} of {len(self)}')
        return Episode(self, self._rows[index])

    def __iter__(self) -> Iterator['Episode']:
        return (self[index] for index in range(len(self)))


class Episode:
    """One episode. What is read of it is kept, images excepted.

    Attributes:
        index: its number in the data set.
        frames: how many video frames it has.
        latent_frames: how many latent frames these make beyond latent frame 0.
        instruction: what was asked for.
        success: whether it was done.
        attributes: what else was noted, such as the seed.
    """

    def __init__(self, dataset: Dataset, row: dict) -> None:
        self._root, self.spec, self._row = dataset.root, dataset.spec, row
        self.index = int(row['episode_index'])
        self.frames = int(row['length'])
        self.latent_frames = latent_frames(self.frames)
        self.instruction: str = row['tasks'][0] if row['tasks'] else ''
        self.success = bool(row.get('success'))
        self.attributes: dict = json.loads(row.get('attributes') or '{}')

    @property
    def actions(self) -> np.ndarray:
        """What should be done, float32 [(frames - 1) * steps, 30]; row k is due at (k + 1) control periods."""
        return self._signal(ACTION)[: -self.spec.steps]

    @property
    def executed(self) -> np.ndarray:
        """What was in force at the same instants."""
        return self._signal(EXECUTED)[: -self.spec.steps]

    @property
    def states(self) -> np.ndarray:
        """What was measured, float32 [(frames - 1) * steps + 1, 30]; row 0 at frame 0, row k + 1 with action k."""
        return self._signal(STATE)[self.spec.steps - 1 :]

    def latent_actions(self, actions: np.ndarray) -> np.ndarray:
        """Group `actions` or `executed` by latent frame, [latent_frames, actions per latent frame, 30].

        Entry i belongs to latent frame i + 1; latent frame 0 has no actions.
        """
        count = self.spec.clock.actions_per_latent
        return actions[: self.latent_frames * count].reshape(self.latent_frames, count, ACTION_DIM)

    def images(self, camera: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Decode the video frames [start, stop) of a camera, uint8 [n, height, width, 3]."""
        return np.stack(list(self.video(camera, start, stop)))

    def video(self, camera: str, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Decode video frames one by one, uint8 [height, width, 3].

        Raises:
            DatasetError: there is no such camera or frame, or the video lacks a frame; with the episode's number.
        """
        stop = self.frames if stop is None else stop
        if not 0 <= start < stop <= self.frames:
            raise DatasetError(f'{self}: frames {start} to {stop} were asked for; it has {self.frames}')
        view, period_ns = self._view(camera), self.spec.clock.video_ns
        start_ns = self.video_start_ns(camera) + start * period_ns
        try:
            yield from read_frames(self.video_file(camera), view, start_ns, period_ns, stop - start)
        except DatasetError as error:
            raise DatasetError(f'{self}: {error}') from error

    def video_file(self, camera: str) -> Path:
        """Return the file that holds the video of a camera."""
        key = image_key(camera)
        indices = {name: self._row[f'videos/{key}/{name}'] for name in ('chunk_index', 'file_index')}
        return self._root / VIDEO_PATH.format(video_key=key, **indices)

    def video_start_ns(self, camera: str) -> int:
        """Return where in that file the episode begins."""
        return round(self._row[f'videos/{image_key(camera)}/from_timestamp'] * NANOSECONDS)

    @cached_property
    def table(self) -> pa.Table:
        """The rows of the episode, one for each video frame."""
        indices = {name: self._row[f'data/{name}'] for name in ('chunk_index', 'file_index')}
        path = self._root / DATA_PATH.format(**indices)
        try:
            return pq.read_table(path, filters=[('episode_index', '=', self.index)])
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f'{self}: {path} cannot be read: {error}') from error

    def __str__(self) -> str:
        return f'episode {self.index} of {self._root}'

    def _signal(self, name: str) -> np.ndarray:
        try:
            signal = tables.values(self.table, name, (self.spec.steps, ACTION_DIM))
        except KeyError:
            raise DatasetError(f'{self} has no {name}') from None
        except DatasetError as error:
            raise DatasetError(f'{self}: {error}') from error
        if len(signal) != self.frames:
            raise DatasetError(f'{self} has {len(signal)} rows for {self.frames} frames')
        return signal.reshape(-1, ACTION_DIM)

    def _view(self, camera: str) -> View:
        for view in self.spec.cameras:
            if view.name == camera:
                return view
        raise DatasetError(f'{self} has no camera {camera}; it has {", ".join(v.name for v in self.spec.cameras)}')


def _read_json(path: Path, problem: str) -> dict:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(f'{problem}: it has no {path.name}') from None
    except (OSError, ValueError) as error:
        raise DatasetError(f'{problem}: {path} cannot be read: {error}') from error
    if not isinstance(document, dict):
        raise DatasetError(f'{problem}: {path} holds no JSON object')
    return document
