"""The VAE learns to see, and its latents get unit variance."""

import csv
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lingbot_va_core.checkpoint import WorldModel, load_model
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.latent_cache import encode_episode
from lingbot_va_core.training.settings import TrainingError, VAESettings, read_settings
from lingbot_va_core.training.trainer import train
from lingbot_va_core.training.vae_training import VAETask, load_views

SETTINGS = {
    'run': {'steps': 60, 'batch': 2, 'log_every': 10, 'evaluate_every': 60, 'evaluate_batches': 2},
    'optimizer': {'lr': 5e-3, 'warmup': 5, 'ema': 0.9},
    'loss': {'frames': 5, 'holdout': 0.34},
}


def settings(*overrides: str) -> VAESettings:
    return read_settings(VAESettings, SETTINGS, overrides)


def test_it_learns_and_its_latents_have_unit_variance(
    small: WorldModel, demonstrations: Dataset, tmp_path: Path
) -> None:
    chosen = settings()
    task = VAETask(small, load_views([demonstrations], small), chosen, World())
    result = train(task, chosen.run, chosen.optimizer, tmp_path / 'run', asdict(chosen), World(), show=False)
    with (tmp_path / 'run' / 'log.csv').open(newline='') as file:
        psnr = [float(row['psnr']) for row in csv.DictReader(file) if row['psnr']]
    assert psnr[-1] > psnr[0] + 4 and result['held_out_psnr'] > psnr[0] + 4
    with Image.open(tmp_path / 'run' / 'pictures' / 'reconstructed-000060.png') as picture:
        assert picture.width == 8 * (96 * 2 + 2)

    model = load_model(tmp_path / 'run' / 'checkpoint')
    latents = torch.cat([encode_episode(episode, model).latents for episode in demonstrations])
    moments = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    assert moments[0].abs().max() < 0.5 and (moments[1] - 1).abs().max() < 0.5


def test_moving_pixels_weigh_more(small: WorldModel, demonstrations: Dataset) -> None:
    views = load_views([demonstrations], small)
    plain, weighted = (
        VAETask(small, views, settings(f'loss.moving={moving}'), World())._forward(
            [episode for episodes in views for episode in episodes], 0, 0, 0
        )
        for moving in (1.0, 5.0)
    )
    assert weighted[1]['l1'] == plain[1]['l1'] and weighted[0] > 1.05 * plain[0]


def test_views_are_those_of_perception(small: WorldModel, demonstrations: Dataset) -> None:
    [[episode, *_]] = load_views([demonstrations], small)
    recorded = demonstrations[0].images('top')
    assert np.array_equal(episode.views[0].movedim(1, -1).numpy(), recorded)
    larger = replace(small.config.rollout, height=32, width=64)
    model = replace(small, config=replace(small.config, rollout=larger))
    [[resized, *_]] = load_views([demonstrations], model)
    assert resized.views[0].shape == (33, 3, 32, 64) and resized.views[1].shape == (33, 3, 16, 32)


def test_a_released_vae_is_not_trained(small: WorldModel, demonstrations: Dataset) -> None:
    with pytest.raises(TrainingError, match='is a released one'):
        VAETask(replace(small, vae=torch.nn.Identity()), load_views([demonstrations], small), settings(), World())


def test_episodes_that_are_all_too_short_are_refused(small: WorldModel, demonstrations: Dataset) -> None:
    with pytest.raises(TrainingError, match=r'no episode has loss.frames = 37 video frames'):
        VAETask(small, load_views([demonstrations], small), settings('loss.frames=37'), World())
