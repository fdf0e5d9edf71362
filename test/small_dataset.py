"""Small data sets with known content."""

import os
from pathlib import Path

import numpy as np

from lingbot_va_core.clock import LatentClock
from lingbot_va_core.datasets.layout import DatasetSpec, View
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.datasets.writer import DatasetWriter
from lingbot_va_core.robot import ACTION_DIM

MASK = tuple(channel in (14, 15, 28) for channel in range(ACTION_DIM))
FRAMES = 9


def make_spec() -> DatasetSpec:
    return DatasetSpec(
        robot='small',
        clock=LatentClock.from_rates(50.0, 12.5),
        mask=MASK,
        channels={'shoulder': 14, 'elbow': 15, 'gripper': 28},
        camera_layout='width',
        cameras=(View('head', 64, 48), View('wrist', 32, 48)),
    )


def image(view: View, frame: int) -> np.ndarray:
    """A smooth picture whose brightness tells the frame."""
    ramp = np.linspace(0, 60, view.width)[None, :, None] + np.zeros((view.height, 1, 3))
    return (ramp + 15 * frame + np.array([0, 20, 40])).clip(0, 255).astype(np.uint8)


def signal(episode: int, step: int, what: float) -> np.ndarray:
    return np.where(MASK, np.arange(ACTION_DIM) / 100 + step / 1000 + episode + what, 0).astype(np.float32)


def write_one(writer: DatasetWriter, index: int, frames: int = FRAMES, success: bool = True) -> None:
    with writer.episode(index, f'task {index % 2}', signal(index, 0, 0.3)) as episode:
        for frame in range(frames):
            episode.add_frame({view.name: image(view, frame) for view in writer.spec.cameras})
            for step in range(4 * frame, 4 * frame + 4) if frame < frames - 1 else ():
                episode.add_step(*(signal(index, step + late, what) for late, what in ((0, 0.1), (0, 0.2), (1, 0.3))))
        episode.finish(success=success, seed=100 + index)


def write_small(root: Path, spec: DatasetSpec) -> Dataset:
    """Write three episodes of 9, 9 and 13 frames; the second one failed."""
    writer = DatasetWriter(root, spec)
    for index, frames in enumerate((FRAMES, FRAMES, 13)):
        write_one(writer, index, frames, success=index != 1)
    return Dataset(writer.finish(3))


def write_in_a_process(root: Path, index: int, die: bool) -> None:
    """Write an episode, or die within it."""
    writer = DatasetWriter(root, make_spec(), {'seed': 1})
    if not die:
        return write_one(writer, index)
    episode = writer.episode(index, 'cut off', signal(0, 0, 0))
    episode.add_frame({view.name: image(view, 0) for view in writer.spec.cameras})
    os._exit(9)
