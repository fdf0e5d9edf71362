"""A camera's image is cut and resized as the profile says."""

from dataclasses import replace

import numpy as np
import pytest

from lingbot_va_core.framing import framed
from lingbot_va_core.robot import Camera

CAMERA = Camera('head', 'head/image_raw', 'head/camera_info', 'head', 64, 48)
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def test_without_crop_and_size_the_image_itself_is_taken() -> None:
    assert framed(CAMERA, IMAGE) is IMAGE


def test_a_crop_is_the_pixels_that_it_names() -> None:
    cut = framed(replace(CAMERA, crop=(8, 4, 32, 20)), IMAGE)
    assert np.array_equal(cut, IMAGE[4:24, 8:40])
    assert cut.flags.c_contiguous


def test_an_image_becomes_smaller_without_aliasing() -> None:
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, ::2] = 200  # columns that a plain bilinear view of a quarter of the width would miss or hit
    view = framed(replace(CAMERA, resize=(16, 12)), stripes)
    assert view.shape == (12, 16, 3)
    assert np.abs(view[:, 1:-1].astype(int) - 100).max() <= 10


@pytest.mark.parametrize('writable', [True, False])
def test_the_crop_is_what_is_resized(writable: bool) -> None:
    image = IMAGE.copy()
    image.setflags(write=writable)
    both = framed(replace(CAMERA, crop=(8, 4, 32, 20), resize=(16, 10)), image)
    assert np.array_equal(both, framed(replace(CAMERA, width=32, height=20, resize=(16, 10)), IMAGE[4:24, 8:40].copy()))
    assert np.abs(both.mean() - IMAGE[4:24, 8:40].mean()) < 2
