"""Camera layouts and image conversion."""

import numpy as np
import pytest
import torch

from lingbot_va_core.canvas import CanvasError, canvas_size, join, split, to_images, to_pixels, view_sizes

CPU = torch.device('cpu')


@pytest.mark.parametrize(('layout', 'cameras'), [('width', 1), ('width', 3), ('tshape', 3)])
def test_split_undoes_join(layout: str, cameras: int) -> None:
    sizes = view_sizes(layout, 8, 12, cameras)
    views = [torch.randn(5, *size) for size in sizes]
    canvas = join(layout, views)
    assert canvas.shape[-2:] == canvas_size(layout, 8, 12, cameras)
    for view, back in zip(views, split(layout, canvas, cameras), strict=True):
        assert torch.equal(view, back)


def test_tshape_has_the_wrists_above_the_head() -> None:
    canvas = join('tshape', [torch.full((4, 6), 0.0), torch.full((2, 3), 1.0), torch.full((2, 3), 2.0)])
    assert canvas[:2].tolist() == [[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]] * 2
    assert canvas[2:].unique().tolist() == [0.0]


def test_halving_averages_four_pixels_without_antialiasing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    pixels = to_pixels([image], (4, 6), CPU)
    mean = image.reshape(4, 2, 6, 2, 3).astype(np.float64).mean(axis=(1, 3)) / 255 * 2 - 1
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), mean, atol=1e-5)


def test_a_third_takes_the_middle_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 15, 3), dtype=np.uint8)
    pixels = to_pixels([image], (3, 5), CPU)
    np.testing.assert_allclose(pixels[0].permute(1, 2, 0).numpy(), image[1::3, 1::3] / 255.0 * 2 - 1, atol=1e-5)


def test_every_level_survives_the_way_to_pixels_and_back() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_images(to_pixels([image], (16, 16), CPU))[0], image)


def test_pixels_out_of_range_are_clipped() -> None:
    assert to_images(torch.tensor([-3.0, 3.0, 0.0]).view(3, 1, 1)).tolist() == [[[0, 255, 128]]]


@pytest.mark.parametrize(
    'images',
    [
        [np.zeros((4, 4, 3), dtype=np.float32)],
        [np.zeros((4, 4, 4), dtype=np.uint8)],
        [np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 5, 3), dtype=np.uint8)],
    ],
)
def test_other_images_are_refused(images: list[np.ndarray]) -> None:
    with pytest.raises(CanvasError):
        to_pixels(images, (4, 4), CPU)


@pytest.mark.parametrize('source', [(480, 640), (97, 211), (64, 48)])
@pytest.mark.parametrize('strided', [False, True])
def test_images_made_much_smaller_are_those_of_torch(source: tuple[int, int], strided: bool) -> None:
    """Only the pixels that count are read then."""
    images = list(np.random.default_rng(0).integers(0, 256, (2, *source, 3), np.uint8))
    images = [image[:, ::-1] for image in images] if strided else images
    size = (16, 24)
    whole = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.interpolate(whole, size, mode='bilinear') / 127.5 - 1
    pixels = to_pixels(images, size, CPU)
    assert pixels.is_contiguous()
    torch.testing.assert_close(pixels, expected, rtol=0, atol=2e-6)
