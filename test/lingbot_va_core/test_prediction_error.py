"""Imagined against real latent frames."""

import numpy as np
import pytest
import torch

from lingbot_va_core.prediction_error import PredictionErrors
from lingbot_va_core.session import Chunk


def chunk(number: int, first: int, *levels: float) -> Chunk:
    """A chunk whose imagined frames are constant."""
    latents = torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 2, 3, 3).contiguous()
    actions = np.zeros((len(levels), 16, 30), np.float32)
    return Chunk(number, first, latents, actions, (), (), (), 0.0, 0.0, 0.0)


def frame(level: float) -> np.ndarray:
    return np.full((2, 3, 3), level, np.float32)


def test_error_and_change_are_relative_to_the_real_frame() -> None:
    errors = PredictionErrors()
    assert errors.observe(0, frame(3.0)) == []
    errors.imagine(chunk(0, 1, 5.0, -2.0))
    (first,) = errors.observe(1, frame(4.0))
    assert (first.index, first.chunk, first.error, first.change) == (1, 0, 0.25, 0.25)
    (second,) = errors.observe(2, frame(-2.0))
    assert (second.index, second.error, second.change) == (2, 0.0, 3.0)


def test_the_error_is_a_root_mean_square() -> None:
    errors = PredictionErrors()
    errors.observe(0, frame(1.0))
    errors.imagine(chunk(0, 1, 0.0))
    real = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    (only,) = errors.observe(1, real)
    assert only.error == pytest.approx(1.0)
    assert only.change == pytest.approx(float(np.linalg.norm(real - 1.0) / np.linalg.norm(real)))


def test_frames_are_compared_once_and_in_order_however_they_come() -> None:
    errors = PredictionErrors()
    errors.observe(0, frame(1.0))
    errors.imagine(chunk(0, 1, 1.0, 1.0))
    errors.imagine(chunk(1, 3, 1.0))
    assert errors.observe(2, frame(1.0)) == []
    assert errors.observe(3, frame(1.0)) == []
    assert [(each.index, each.chunk) for each in errors.observe(1, frame(2.0))] == [(1, 0), (2, 0), (3, 1)]
    assert errors.observe(1, frame(9.0)) == errors.observe(3, frame(9.0)) == []


def test_a_frame_that_nobody_imagined_yet_waits() -> None:
    errors = PredictionErrors()
    errors.observe(0, frame(1.0))
    assert errors.observe(1, frame(1.0)) == []
    errors.imagine(chunk(0, 1, 1.0, 1.0))
    assert [each.index for each in errors.observe(2, frame(1.0))] == [1, 2]


def test_a_black_real_frame_has_a_finite_error() -> None:
    errors = PredictionErrors()
    errors.observe(0, frame(0.0))
    errors.imagine(chunk(0, 1, 1.0))
    (only,) = errors.observe(1, frame(0.0))
    assert np.isfinite(only.error)
