"""Models that the tests of the core share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lingbot_va_core import released_checkpoint, weights
from lingbot_va_core.checkpoint import WorldModel, load_model, save_checkpoint
from lingbot_va_core.config import (
    ExpertConfig,
    ModelConfig,
    RolloutConfig,
    TextConfig,
    TransformerConfig,
    WanVAEConfig,
)
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_core.world_model import skeleton

torch.set_num_threads(1)

RELEASED_KIND = ModelConfig(
    name='small',
    transformer=TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_dim=12,
        video=ExpertConfig(24, 40),
        action=None,
        latent_channels=48,
        patch_size=(1, 2, 2),
        text_dim=16,
        freq_dim=16,
    ),
    vae=WanVAEConfig('wan', 8, 4, 48, (1, 2, 4, 4), 1, (False, True, True), 2, (0.1,) * 48, (0.9,) * 48),
    rollout=RolloutConfig(64, 64, 'tshape', 3, 2, 16, 2, 2, 8, video_guidance=5.0),
    text=TextConfig('umt5', 512),
)


@pytest.fixture(scope='session')
def profile() -> RobotProfile:
    return load_profile('aloha')


@pytest.fixture(scope='session')
def tiny(profile: RobotProfile) -> WorldModel:
    """The untrained tiny model; never changed by a test."""
    return load_model(None, 'tiny', profile, seed=0)


@pytest.fixture(scope='session')
def normalizer(profile: RobotProfile) -> ActionNormalizer:
    return ActionNormalizer.from_profile(profile)


@pytest.fixture(scope='session')
def small(normalizer: ActionNormalizer) -> WorldModel:
    """A model of the released kind, with random weights."""
    model = skeleton('small', RELEASED_KIND, normalizer, torch.device('cpu'), torch.float32)
    generator = torch.Generator().manual_seed(0)
    initialize_transformer(model.transformer.to_empty(device='cpu'), generator)
    initialize_vae(model.vae.to_empty(device='cpu'), generator)
    return model


@pytest.fixture
def released(small: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the authors' layout, the transformer in several shards."""
    monkeypatch.setattr(released_checkpoint, 'write_weights', lambda *args: weights.write_weights(*args, 40_000))
    save_checkpoint(small, tmp_path / 'released', layout='released')
    return tmp_path / 'released'


@pytest.fixture
def images() -> list[list[np.ndarray]]:
    """Thirteen frames of three cameras, `images[time][camera]`, smooth in space and moving in time."""
    y, x = np.mgrid[0:120, 0:160]
    return [
        [
            np.stack([127 + 120 * np.sin(x / (9 + camera) + time / 5), y * 2, 255 - x], axis=-1).astype(np.uint8)
            for camera in range(3)
        ]
        for time in range(13)
    ]
