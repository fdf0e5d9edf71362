"""Camera messages become RGB, whatever their encoding and padding."""

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from lingbot_va_ros.images import ImageError, to_rgb

RGB = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
ALPHA = np.full((6, 8, 1), 255, np.uint8)


def message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = np.pad(pixels.reshape(len(pixels), -1), ((0, 0), (0, padding)))
    return Image(height=6, width=8, encoding=encoding, step=rows.shape[1], data=rows.tobytes())


@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize(('encoding', 'pixels'), [
    ('rgb8', RGB),
    ('bgr8', RGB[..., ::-1]),
    ('rgba8', np.concatenate([RGB, ALPHA], axis=2)),
    ('bgra8', np.concatenate([RGB[..., ::-1], ALPHA], axis=2)),
])  # fmt: skip
def test_colours_keep_their_places(encoding, pixels, padding):
    assert np.array_equal(to_rgb(message(pixels, encoding, padding)), RGB)


def test_grey_becomes_three_equal_channels():
    assert np.array_equal(to_rgb(message(RGB[..., 0], 'mono8')), np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize(('encoding', 'pixels'), [('rgb16', RGB), ('bgr16', RGB[..., ::-1])])
def test_sixteen_bits_become_eight(encoding, pixels, big_endian):
    wide = (pixels.astype(np.uint16) * 257).astype('>u2' if big_endian else '<u2')
    image = message(wide.view(np.uint8), encoding, padding=4)
    image.is_bigendian = int(big_endian)
    assert np.array_equal(to_rgb(image), RGB)


@pytest.mark.parametrize(('encoding', 'order'), [
    ('yuv422', (1, 0, 2, 0)), ('uyvy', (1, 0, 2, 0)), ('yuv422_yuy2', (0, 1, 0, 2)), ('yuyv', (0, 1, 0, 2))
])  # fmt: skip
def test_packed_colours_of_usb_cameras_are_unpacked(encoding, order):
    colour = np.array([200, 120, 40])
    bt601 = np.array([[65.738, 129.057, 25.064], [-37.945, -74.494, 112.439], [112.439, -94.154, -18.285]]) / 256
    parts = np.rint(bt601 @ colour + (16, 128, 128)).astype(np.uint8)[list(order)]  # both pixels of a pair are equal
    unpacked = to_rgb(message(np.tile(parts, (6, 4)), encoding, padding=8)).astype(int)
    assert unpacked.shape == (6, 8, 3)
    assert np.abs(unpacked - colour).max() <= 2


def test_rgb_is_not_copied():
    image = message(RGB, 'rgb8')
    assert np.shares_memory(to_rgb(image), np.frombuffer(image.data, np.uint8))


def test_other_encodings_are_left_to_cv_bridge():
    bayer = Image(height=8, width=8, encoding='bayer_rggb8', step=8, data=bytes([90] * 64))
    assert np.array_equal(to_rgb(bayer), np.full((8, 8, 3), 90))


def test_lossless_compression_gives_the_same_pixels():
    for encoding in ('.png', '.bmp'):
        data = cv2.imencode(encoding, RGB[..., ::-1])[1].tobytes()
        assert np.array_equal(to_rgb(CompressedImage(format=encoding, data=data)), RGB)


@pytest.mark.parametrize(('image', 'says'), [
    (message(RGB, 'magic'), 'magic'),
    (Image(height=6, width=8, encoding='rgb8', step=24, data=bytes(24)), '24 bytes do not make 6 rows of 24 bytes'),
    (Image(height=6, width=8, encoding='rgb8', step=8, data=bytes(48)), '8 pixels of rgb8'),
    (CompressedImage(format='jpeg', data=bytes(10)), "10 bytes of format 'jpeg' cannot be decoded"),
    (CompressedImage(format='png'), '0 bytes'),
], ids=range(5))  # fmt: skip
def test_what_is_no_image_is_refused(image, says):
    with pytest.raises(ImageError, match=says):
        to_rgb(image)
