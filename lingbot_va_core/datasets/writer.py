"""Writes a data set: episodes in any order and by any process, whole or not at all."""

import json
import os
import shutil
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
from av import VideoFrame

from lingbot_va_core.datasets import tables
from lingbot_va_core.datasets.formats import find_format
from lingbot_va_core.datasets.layout import ACTION, EXECUTED, STATE, VERSION, DatasetError, DatasetSpec
from lingbot_va_core.datasets.statistics import ImageStatistics
from lingbot_va_core.datasets.video import VideoWriter
from lingbot_va_core.robot import ACTION_DIM

STAGED = 'staged'  # one Parquet file for each complete episode
RECIPE = 'recipe.json'
FRAMES_AHEAD = 4  # video frames that may wait for the encoder


class DatasetWriter:
    """Collects episodes in `<root>.partial`, which becomes `root` when the data set is complete.

    Several processes may write different episodes at once, each with a writer of its own. A writer that finds the
    folder of an interrupted one goes on with it.

    Args:
        root: the data set to be; it must not exist yet.
        spec: what all episodes share.
        recipe: whatever the episodes depend on, as JSON; an interrupted data set of another recipe is refused.
        version: of the LeRobot format, see `formats`.

    Raises:
        DatasetError: `root` exists, the partial folder is of another recipe, or the version is unknown.
    """

    def __init__(self, root: Path | str, spec: DatasetSpec, recipe: dict | None = None, version: str = VERSION) -> None:
        self.root, self.spec, self.recipe = Path(root), spec, recipe or {}
        self.version, self.format = version, find_format(version)
        self.partial = self.root.with_name(f'{self.root.name}.partial')
        if self.root.exists():
            raise DatasetError(f'{self.root} exists; choose another folder or delete it')
        (self.partial / STAGED).mkdir(parents=True, exist_ok=True)
        settings = {'spec': spec.to_dict(), 'recipe': self.recipe}
        if version != VERSION:
            settings['version'] = version
        document = json.dumps(settings, sort_keys=True)
        path = self.partial / RECIPE
        if not path.exists():
            _write_text(path, document)
        elif path.read_text() != document:
            raise DatasetError(f'{self.partial} was begun with other settings; use the same or delete it')

    def done(self) -> set[int]:
        """Return the indices of the episodes that are complete."""
        return {int(path.stem) for path in (self.partial / STAGED).glob('*.parquet') if path.stem.isdigit()}

    def episode(self, index: int, instruction: str, state: np.ndarray) -> 'EpisodeWriter':
        """Begin an episode; `state` [30] is what is measured at the first video frame."""
        return EpisodeWriter(self, index, instruction, state)

    def finish(self, episodes: int) -> Path:
        """Turn the episodes 0 to `episodes` - 1 into a data set; return its folder.

        Raises:
            DatasetError: an episode is missing.
        """
        missing = sorted(set(range(episodes)) - self.done())
        if missing or not episodes:
            raise DatasetError(f'episode {missing[0] if missing else 0} of {episodes} is missing in {self.partial}')
        staged = [self.partial / STAGED / f'{index:06d}.parquet' for index in range(episodes)]
        self.format.assemble(self.partial, self.spec, staged)
        for path in self.partial.rglob('.*.tmp'):  # of writers that were killed
            path.unlink()
        os.replace(self.partial, self.root)
        for path in (self.root / STAGED).iterdir():
            path.unlink()
        (self.root / STAGED).rmdir()
        (self.root / RECIPE).unlink()
        return self.root

    def discard(self) -> None:
        """Remove what was written; no other process may be writing."""
        shutil.rmtree(self.partial)


class EpisodeWriter:
    """One episode: a video frame, `steps` control periods, a frame... and a frame at the end.

    Images are encoded as they come, some frames behind, in a thread of their own. Used in a `with` block, the episode
    is dropped unless `finish` was reached.
    """

    def __init__(self, writer: DatasetWriter, index: int, instruction: str, state: np.ndarray) -> None:
        if index < 0:
            raise DatasetError(f'episode index is {index}; it must not be negative')
        self._writer, self._spec, self._index, self._instruction = writer, writer.spec, index, instruction
        self._videos = {
            view.name: writer.partial / writer.format.video_path(view.name, index) for view in self._spec.cameras
        }
        self._repeats = writer.format.images_per_frame(self._spec)
        self._encoders, self._statistics = {}, {}
        for view in self._spec.cameras:
            path = self._videos[view.name]
            path.parent.mkdir(parents=True, exist_ok=True)
            self._encoders[view.name] = VideoWriter(_temporary(path), view, self._spec.clock.video_ns // self._repeats)
            self._statistics[view.name] = ImageStatistics()
        self._frames = 0
        self._thread = ThreadPoolExecutor(1, 'encoder')  # encoding is most of the work, and leaves Python to others
        self._encoding: deque[Future] = deque()
        self._signals: dict[str, list[np.ndarray]] = {name: [] for name in (ACTION, EXECUTED)}
        self._states = [self._checked(state, STATE)]

    def add_frame(self, images: Mapping[str, np.ndarray]) -> None:
        """Take the images of all cameras at one instant, uint8 RGB [height, width, 3] by camera."""
        if len(self._signals[ACTION]) != self._frames * self._spec.steps:
            raise DatasetError(
                f'episode {self._index}: frame {self._frames} comes after {len(self._signals[ACTION])} control '
                f'periods; it is due after {self._frames * self._spec.steps}'
            )
        frames = {}
        for name, encoder in self._encoders.items():
            if name not in images:
                raise DatasetError(f'episode {self._index}: frame {self._frames} has no image of {name}')
            frames[name] = encoder.frame(images[name])
            self._statistics[name].add(images[name])
        while len(self._encoding) >= FRAMES_AHEAD:
            self._encoding.popleft().result()
        self._encoding.append(self._thread.submit(self._encode, frames, self._repeats - 1 if self._frames else 0))
        self._frames += 1

    def add_step(self, action: np.ndarray, executed: np.ndarray, state: np.ndarray) -> None:
        """Take one control period.

        Args:
            action: what should be done, due at the end of the period: the label, universal [30].
            executed: what was in force at that instant, [30].
            state: what was measured at that instant, [30].
        """
        if len(self._signals[ACTION]) >= self._frames * self._spec.steps:
            raise DatasetError(f'episode {self._index}: frame {self._frames} is due before the next control period')
        self._signals[ACTION].append(self._checked(action, ACTION))
        self._signals[EXECUTED].append(self._checked(executed, EXECUTED))
        self._states.append(self._checked(state, STATE))

    def finish(self, success: bool, **attributes: object) -> None:
        """Complete the episode, which must end with a frame; `attributes` are kept with it as JSON."""
        steps, spec = len(self._signals[ACTION]), self._spec
        if not steps or steps != (self._frames - 1) * spec.steps:
            raise DatasetError(
                f'episode {self._index} has {self._frames} frames and {steps} control periods; {spec.steps} belong '
                'between two frames, and a frame at the end'
            )
        while self._encoding:
            self._encoding.popleft().result()
        self._close()
        shape = (self._frames, spec.steps, ACTION_DIM)
        # The last frame has nothing after it, the first nothing before it: what was last, or first, is repeated there.
        signals = {
            name: np.stack(rows + [rows[-1]] * spec.steps).reshape(shape) for name, rows in self._signals.items()
        }
        signals[STATE] = np.stack([self._states[0]] * (spec.steps - 1) + self._states).reshape(shape)
        notes = {
            'instruction': self._instruction,
            'success': bool(success),
            'attributes': attributes,
            'images': {name: item.histogram.tolist() for name, item in self._statistics.items()},
        }
        for path in self._videos.values():
            os.replace(_temporary(path), path)
        staged = self._writer.partial / STAGED / f'{self._index:06d}.parquet'
        tables.write_episode(_temporary(staged), spec, self._index, signals, notes)
        os.replace(_temporary(staged), staged)  # from here on the episode exists

    def discard(self) -> None:
        """Drop what was written of an episode that is not finished."""
        self._close()
        for path in self._videos.values():
            _temporary(path).unlink(missing_ok=True)

    def _encode(self, frames: dict[str, VideoFrame], repeats: int) -> None:
        for name, frame in frames.items():
            self._encoders[name].repeat(repeats)
            self._encoders[name].encode(frame)

    def _close(self) -> None:
        self._thread.shutdown(cancel_futures=True)
        for encoder in self._encoders.values():
            encoder.close()
        self._encoders = {}

    def __enter__(self) -> 'EpisodeWriter':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _checked(self, row: np.ndarray, what: str) -> np.ndarray:
        row = np.array(row, dtype=np.float32)
        if row.shape != (ACTION_DIM,) or not np.isfinite(row).all():
            step = len(self._signals[ACTION])
            raise DatasetError(
                f'episode {self._index}, frame {step // self._spec.steps}: {what} must be {ACTION_DIM} finite values, '
                f'not {row.shape} with {int((~np.isfinite(row)).sum())} that are not finite'
            )
        return row


def _temporary(path: Path) -> Path:
    return path.with_name(f'.{path.name}.tmp')


def _write_text(path: Path, text: str) -> None:
    _temporary(path).write_text(text)
    os.replace(_temporary(path), path)
