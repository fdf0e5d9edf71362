"""A small data set for tests of the training: a block that the cameras see follows the joints."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lingbot_va_core.clock import LatentClock
from lingbot_va_core.datasets.layout import DatasetSpec, View
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.datasets.writer import DatasetWriter
from lingbot_va_core.robot import RobotProfile

VIEWS = (View('top', 96, 64), View('left', 48, 32), View('right', 48, 32))


def spec(profile: RobotProfile, mask: bool = True) -> DatasetSpec:
    """The data of `profile` at the size of the tiny model's views; without `mask`, video alone."""
    whole = replace(DatasetSpec.from_profile(profile), cameras=VIEWS[: len(profile.cameras)])
    assert whole.clock == LatentClock(action_ns=20_000_000, video_ns=80_000_000)
    return whole if mask else replace(whole, mask=(False,) * 30)


def write_demonstrations(
    root: Path,
    profile: RobotProfile,
    episodes: int = 3,
    frames: int = 33,
    seed: int = 0,
    mask: bool = True,
    instruction: str = 'follow the block',
) -> Dataset:
    """Write episodes of `frames` video frames, in each of which the joints swing at a pace of their own."""
    random = np.random.default_rng(seed)
    writer = DatasetWriter(root, spec(profile, mask))
    for index in range(episodes):
        pace, phase = random.uniform(0.5, 1.5), random.uniform(0, 6)
        actions = np.zeros((frames * 4 + 1, 30), np.float32)
        time = np.arange(len(actions)) / 50.0
        for channel in np.flatnonzero(profile.mask):
            actions[:, channel] = 0.3 * np.sin(pace * time * 2 + phase + channel) * mask
        with writer.episode(index, instruction, actions[0]) as episode:
            for frame in range(frames):
                if frame:
                    for k in range(4 * frame - 3, 4 * frame + 1):
                        noise = random.normal(0, 0.01, 30).astype(np.float32) * profile.mask * mask
                        episode.add_step(actions[k], actions[k] + noise, actions[k])
                where = 0.5 + 0.4 * np.sin(pace * time[4 * frame] * 2 + phase)
                episode.add_frame({view.name: _image(view, where) for view in writer.spec.cameras})
            episode.finish(success=True)
    writer.finish(episodes)
    return Dataset(root)


def _image(view: View, where: float) -> np.ndarray:
    image = np.full((view.height, view.width, 3), (40, 60, 90), np.uint8)
    size = view.height // 4
    left = int(where * (view.width - size))
    image[view.height // 2 :][:size, left : left + size] = (230, 80, 40)
    return image
