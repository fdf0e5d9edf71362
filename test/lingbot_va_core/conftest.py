"""Models that the tests of the core share."""

import numpy as np
import pytest
import torch

from lingbot_va_core.checkpoint import WorldModel, load_model
from lingbot_va_core.robot import RobotProfile, load_profile

torch.set_num_threads(1)


@pytest.fixture(scope='session')
def profile() -> RobotProfile:
    return load_profile('aloha')


@pytest.fixture(scope='session')
def tiny(profile: RobotProfile) -> WorldModel:
    """The untrained tiny model; never changed by a test."""
    return load_model(None, 'tiny', profile, seed=0)


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
