"""Data sets as the training sees them: whose actions mean the same, what poses are relative to, what is a mistake."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from demonstrations import VIEWS, spec, write_demonstrations

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.clock import LatentClock
from lingbot_va_core.datasets.reader import Dataset, Episode
from lingbot_va_core.datasets.writer import DatasetWriter
from lingbot_va_core.robot import POSE_CHANNELS, RobotProfile
from lingbot_va_core.rotations import multiply
from lingbot_va_core.training.episodes import load_mixture, mistaken_frames, open_sources
from lingbot_va_core.training.settings import ClipSettings, TrainingError

SETTINGS = ClipSettings()
POSE = list(POSE_CHANNELS['left'])


def edited(dataset: Dataset, root: Path, **changes: object) -> Path:
    """A copy of the description of a data set, with its files."""
    root.mkdir()
    for part in ('data', 'videos'):
        (root / part).symlink_to(dataset.root / part)
    (root / 'meta').mkdir()
    for path in (dataset.root / 'meta').iterdir():
        (root / 'meta' / path.name).symlink_to(path)
    path = root / 'meta' / 'lingbot_va.json'
    document = {**json.loads(path.read_text()), **changes}
    path.unlink()
    path.write_text(json.dumps(document))
    return root


@pytest.fixture(scope='module')
def other(profile: RobotProfile, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_demonstrations(tmp_path_factory.mktemp('other') / 'swing', profile, episodes=1, frames=9, seed=9)


def test_data_sets_of_one_robot_share_the_quantiles_of_all(
    demonstrations: Dataset, other: Dataset, tmp_path: Path, small: WorldModel
) -> None:
    stranger = edited(other, tmp_path / 'stranger', robot='openarm')
    places = [(demonstrations.root, 1.0), (other.root, 1.0), (stranger, 1.0)]
    first, second, third = open_sources(places, SETTINGS)
    assert first.normalizer is second.normalizer and first.normalizer != third.normalizer
    executed = np.concatenate([episode.executed for dataset in (demonstrations, other) for episode in dataset])
    channel = first.normalizer.mask.index(True)
    assert first.normalizer.q99[channel] == pytest.approx(np.quantile(executed[:, channel], 0.99), abs=1e-6)

    kept = open_sources(places, SETTINGS, small.normalizer)
    assert [source.normalizer is small.normalizer for source in kept] == [True, True, False]
    mask = (*small.normalizer.mask[:14], *[False] * 14, *small.normalizer.mask[28:])
    with pytest.raises(TrainingError, match="has other channels than the model's quantiles"):
        open_sources(places, SETTINGS, replace(small.normalizer, mask=mask))


def test_all_data_sets_have_one_clock(demonstrations: Dataset, other: Dataset, tmp_path: Path) -> None:
    slow = edited(other, tmp_path / 'slow', clock=vars(LatentClock(action_ns=25_000_000, video_ns=100_000_000)))
    info = json.loads((slow / 'meta' / 'info.json').read_text())
    (slow / 'meta' / 'info.json').unlink()
    (slow / 'meta' / 'info.json').write_text(json.dumps({**info, 'fps': 10.0}))
    with pytest.raises(TrainingError, match=r'slow has 40 actions and 10 video .*swing 50 actions and 12.5 video'):
        open_sources([(demonstrations.root, 1.0), (slow, 1.0)], SETTINGS)


def recorded(mistakes: object) -> Episode:
    """An episode of five latent frames beyond the first, of which only the description is looked at."""
    clock = LatentClock(action_ns=20_000_000, video_ns=80_000_000)
    row = {'episode_index': 0, 'length': 21, 'tasks': [], 'attributes': json.dumps({'mistakes': mistakes})}
    return Episode(SimpleNamespace(root=Path('data'), spec=SimpleNamespace(clock=clock)), row)


def test_a_latent_frame_with_a_mistake_is_marked() -> None:
    assert mistaken_frames(recorded([[15, 17], [48, 64]])).tolist() == [False, True, True, False, True, False]
    assert not mistaken_frames(recorded([])).any()
    assert mistaken_frames(recorded([[70, 200]])).tolist() == [False] * 5 + [True]


@pytest.mark.parametrize('mistakes', [[[5, 5]], [[-1, 5]], [3], 'all'])
def test_mistakes_that_are_no_ranges_are_refused(mistakes: object) -> None:
    with pytest.raises(TrainingError, match=r'mistakes is .*; it must be a list of ranges \[first, last\)'):
        mistaken_frames(recorded(mistakes))


def test_poses_can_be_made_relative_to_the_first_executed_one(
    profile: RobotProfile, small: WorldModel, tmp_path: Path
) -> None:
    mask = [False] * 30
    for channel in POSE:
        mask[channel] = True
    whole = replace(spec(profile), mask=tuple(mask))
    start = np.zeros(30, np.float32)
    start[POSE] = (0.4, 0.2, 0.3, 0.0, 0.0, 0.6, 0.8)
    writer = DatasetWriter(tmp_path / 'poses', whole)
    with writer.episode(0, 'reach', start) as episode:
        images = {view.name: np.zeros((view.height, view.width, 3), np.uint8) for view in VIEWS}
        episode.add_frame(images)
        for step in range(32):
            action = start.copy()
            action[POSE[0]] += 0.01 * step
            label = action.copy()
            label[POSE[1]] += 0.05
            episode.add_step(label, action, action)
            if step % 4 == 3:
                episode.add_frame(images)
        episode.finish(success=True, mistakes=[[16, 18]])
    writer.finish(1)

    def load(relative: bool) -> tuple[torch.Tensor, torch.Tensor]:
        settings = replace(SETTINGS, relative_poses=relative)
        [source] = open_sources([(tmp_path / 'poses', 1.0)], settings)
        mixture = load_mixture([source], small, tmp_path / 'cache', 0.0)
        [[[episode], _]] = mixture.trained
        assert episode.mistaken.tolist() == [False, False, True] and len(mixture.keys) == 1
        rows = [source.normalizer.denormalize(x[1:]).flatten(0, 1)[:, POSE] for x in (episode.labels, episode.executed)]
        return rows[0], rows[1]

    labels, executed = load(relative=True)
    expected = torch.zeros(32, 7)
    expected[:, 0], expected[:, 6] = 0.01 * torch.arange(32), 1.0
    torch.testing.assert_close(executed, expected, atol=1e-5, rtol=0)
    _, absolute = load(relative=False)
    torch.testing.assert_close(absolute, expected + torch.tensor([0.4, 0.2, 0.3, 0, 0, 0.6, -0.2]), atol=1e-5, rtol=0)
    assert np.allclose(multiply(start[POSE][3:], executed[5, 3:].numpy()), start[POSE][3:], atol=1e-5)
    assert labels[:, 1].max() <= 0.05 + 1e-5  # clipped to the range of what was executed
