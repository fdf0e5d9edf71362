"""A camera's messages become what the model sees: rectified, cropped, resized."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lingbot_va_core.robot import Camera
from lingbot_va_ros.camera_input import CameraInput
from lingbot_va_ros.camera_view import CameraView
from lingbot_va_ros.images import ImageError

CAMERA = Camera('head', 'head/image_raw', 'head/camera_info', 'head', 64, 48)
MATRIX = np.array([[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]])
DISTORTION = {'plumb_bob': [-0.3, 0.1, 0.001, -0.002, 0.0], 'equidistant': [0.1, -0.05, 0.0, 0.0]}
COLUMNS, ROWS = np.meshgrid(np.arange(64), np.arange(48))
PICTURE = np.stack([3 * COLUMNS + 20, 4 * ROWS + 20, COLUMNS + 2 * ROWS], axis=-1).astype(np.uint8)  # tells the place


def message(pixels: np.ndarray = PICTURE) -> Image:
    height, width, _ = pixels.shape
    return Image(height=height, width=width, encoding='rgb8', step=3 * width, data=pixels.tobytes())


def info(model: str = 'plumb_bob', **changes: object) -> CameraInfo:
    projection = np.hstack([MATRIX, np.zeros((3, 1))])
    fields = {
        'width': 64,
        'height': 48,
        'distortion_model': model,
        'd': DISTORTION.get(model, []),
        'k': MATRIX.ravel(),
        'r': np.eye(3).ravel(),
        'p': projection.ravel(),
    }
    return CameraInfo(**(fields | changes))


def distorted(model: str) -> np.ndarray:
    """What a camera with this lens makes of PICTURE."""
    pixels = np.stack([COLUMNS, ROWS], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    lens = np.array(DISTORTION[model])
    undistort = cv2.fisheye.undistortPoints if model == 'equidistant' else cv2.undistortPoints
    straight = undistort(pixels, MATRIX, lens, P=MATRIX).reshape(48, 64, 2).astype(np.float32)
    return cv2.remap(PICTURE, straight, None, cv2.INTER_LINEAR)


@pytest.mark.parametrize('model', DISTORTION)
def test_a_lens_is_undone(model: str) -> None:
    view = CameraView(replace(CAMERA, rectify=True))
    assert view.calibrate(info(model))
    bent = distorted(model)
    straight = view.rgb(message(bent))
    errors = [np.abs(each.astype(int) - PICTURE)[8:-8, 10:-10] for each in (straight, bent)]
    assert errors[0].max() <= 3 < errors[1].max()  # a pixel is 3 or 4 levels
    assert not view.calibrate(info(model))  # the same again


@pytest.mark.parametrize('d', [[], [0.1, -0.05, 0.0, 0.0, 0.0]], ids=['none', 'padded as by RealSense'])
def test_a_fisheye_lens_may_come_without_coefficients_or_with_a_zero_more(d: list[float]) -> None:
    padded, plain = (CameraView(replace(CAMERA, rectify=True)) for _ in range(2))
    assert padded.calibrate(info('equidistant', d=d)) and plain.calibrate(info('equidistant', d=d[:4]))
    bent = message(distorted('equidistant'))
    assert np.array_equal(padded.rgb(bent), plain.rgb(bent))
    assert not padded.calibrate(info('equidistant', d=d))


@pytest.mark.parametrize(('model', 'numbers'), [
    ('plumb_bob', (0, 4, 5)), ('rational_polynomial', (8, 12, 14)), ('thin_prism', (12,)),
])  # fmt: skip
def test_every_number_of_coefficients_that_is_known_can_be_used(model: str, numbers: tuple[int, ...]) -> None:
    for count in numbers:
        view = CameraView(replace(CAMERA, rectify=True))
        view.calibrate(info(model, d=[0.01] * count))
        assert view.rgb(message()).shape == PICTURE.shape


def test_what_is_cut_is_the_rectified_image() -> None:
    whole, cut = (CameraView(replace(CAMERA, rectify=True, crop=crop)) for crop in (None, (8, 4, 32, 20)))
    assert whole.calibrate(info()) and cut.calibrate(info())
    bent = message(distorted('plumb_bob'))
    assert np.array_equal(cut.rgb(bent), whole.rgb(bent)[4:24, 8:40])
    smaller = CameraView(replace(CAMERA, rectify=True, crop=(8, 4, 32, 20), resize=(16, 10)))
    smaller.calibrate(info())
    assert smaller.rgb(bent).shape == (10, 16, 3)


def test_without_a_lens_nothing_changes() -> None:
    view = CameraView(replace(CAMERA, rectify=True))
    view.calibrate(info('', p=np.zeros(12), r=np.zeros(9)))  # as drivers do that know the focal length alone
    assert np.array_equal(view.rgb(message()), PICTURE)
    assert not CameraView(CAMERA).calibrate(info())  # which nobody asked for


@pytest.mark.parametrize(('changes', 'says'), [
    (None, 'nothing came on head/camera_info yet'),
    ({'width': 128, 'height': 96}, 'head/camera_info is for 128x96 pixels, but the profile says 64x48; calibrate the'),
    ({'k': np.zeros(9)}, 'head/camera_info holds no calibration; calibrate the camera, or leave rectify out'),
    ({'binning_x': 2}, 'tells of binning or a region of interest; turn them off in the driver, and use crop'),
    ({'distortion_model': 'fov'}, "has the distortion model 'fov'; equidistant and"),
    ({'d': [0.1] * 3}, "has 3 distortion coefficients for the model 'plumb_bob', which has one of (0, 4, 5, 8,"),
    ({'d': [0.1] * 6}, 'has 6 distortion coefficients'),
    ({'distortion_model': 'equidistant', 'd': [0.1] * 5}, "for the model 'equidistant', which has one of (0, 4); cal"),
], ids=range(8))  # fmt: skip
def test_what_cannot_be_rectified_is_refused_until_it_can(changes: dict | None, says: str) -> None:
    camera = CameraInput(replace(CAMERA, rectify=True))
    if changes is not None:
        camera.calibrate(info(**changes))
    assert not camera.accept(message())
    assert camera.refusal.startswith('the image on head/image_raw cannot be rectified: ')
    assert says in camera.refusal
    camera.calibrate(info())
    assert camera.accept(message())
    assert camera.refusal == ''


def test_another_size_is_refused_whatever_the_transport() -> None:
    small = PICTURE[:40, :60]
    jpeg = CompressedImage(format='jpeg', data=cv2.imencode('.jpg', small)[1].tobytes())
    for each in (message(small), jpeg):
        with pytest.raises(ImageError, match='has 60x40 pixels, but the profile says 64x48; correct one of them'):
            CameraView(CAMERA).rgb(each)


def test_a_broken_image_of_an_accepted_format_is_named() -> None:
    camera = CameraInput(replace(CAMERA, transport='compressed'))
    good, broken = (
        CompressedImage(format='png', data=cv2.imencode('.png', PICTURE)[1].tobytes()[:n]) for n in (None, 9)
    )
    assert camera.accept(good) and camera.accept(broken)
    with pytest.raises(
        ImageError, match=r"head/image_raw/compressed cannot be converted to rgb8: 9 bytes of format 'png'"
    ):
        camera.rgb(broken)


def test_a_compressed_camera_that_goes_wrong_later_is_refused_until_it_is_right_again() -> None:
    camera = CameraInput(replace(CAMERA, transport='compressed'))
    good, half = (
        CompressedImage(format='png', data=cv2.imencode('.png', each)[1].tobytes())
        for each in (PICTURE, np.ascontiguousarray(PICTURE[::2, ::2]))
    )
    assert camera.accept(good) and camera.accept(half), 'the format is the same'
    with pytest.raises(ImageError):
        camera.rgb(half)
    assert not camera.accept(half)
    assert 'has 32x24 pixels, but the profile says 64x48' in camera.refusal
    assert camera.accept(good) and camera.refusal == ''


def test_an_image_that_is_shown_again_is_not_converted_again() -> None:
    camera, image = CameraInput(replace(CAMERA, resize=(32, 24))), message()
    assert camera.rgb(image) is camera.rgb(image)
    assert camera.rgb(message()) is not camera.rgb(image)


def test_silence_is_told_with_what_came_before() -> None:
    camera = CameraInput(CAMERA)
    assert camera.silence(60.0) == ''
    assert camera.silence(-1.0) == 'head/image_raw (never came)'
    camera.accept(message())
    assert camera.silence(-1.0) == 'head/image_raw (stopped)'
