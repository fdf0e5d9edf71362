"""A small model and a small data set that the tests of the training share."""

from pathlib import Path

import pytest
from demonstrations import write_demonstrations
from training_runs import build_model

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.robot import RobotProfile


@pytest.fixture
def small(profile: RobotProfile) -> WorldModel:
    """A model of its own for each test."""
    return build_model(profile)


@pytest.fixture(scope='session')
def demonstrations(profile: RobotProfile, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three episodes of 8 latent frames after the first."""
    return write_demonstrations(tmp_path_factory.mktemp('data') / 'swing', profile)


@pytest.fixture(scope='session')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for latents."""
    return tmp_path_factory.mktemp('latents')
