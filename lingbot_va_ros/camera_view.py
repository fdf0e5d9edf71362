"""What the model sees of a camera: its messages converted, rectified, cropped and resized as the profile says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lingbot_va_core.framing import framed, resized
from lingbot_va_core.robot import Camera
from lingbot_va_ros.images import ImageError, to_rgb

PINHOLES = ('', 'plumb_bob', 'rational_polynomial', 'thin_prism')
FISHEYE = 'equidistant'
COEFFICIENTS = {False: (0, 4, 5, 8, 12, 14), True: (0, 4)}  # by whether it is a fisheye; OpenCV's models


class CameraView:
    """Turns a camera's messages into data, the same live, in films and in conversions.

    Messages have the fields of sensor_msgs, in the classes of rclpy or of rosbags.

    Attributes:
        camera: of the profile.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._problem = f'cannot be rectified: nothing came on {camera.info_topic} yet' if camera.rectify else ''
        self._calibration: tuple | None = None
        self._maps: tuple[np.ndarray, np.ndarray] | None = None

    def calibrate(self, info: Any) -> bool:
        """Take a CameraInfo; return whether it changes anything. Only then the undistortion is computed anew."""
        fields = (info.k, _distortion(info), info.r, info.p)
        cut = (info.binning_x, info.binning_y, info.roi.x_offset, info.roi.y_offset)
        calibration = (info.width, info.height, info.distortion_model, *map(tuple, fields), cut)
        if not self.camera.rectify or calibration == self._calibration:
            return False
        self._calibration, self._maps = calibration, None
        self._problem = self._refusal(info)
        if not self._problem:
            self._maps = self._undistortion(*(np.array(field, dtype=np.float64) for field in fields))
        return True

    def rgb(self, message: Any) -> np.ndarray:
        """Convert an Image or CompressedImage: uint8 RGB [height, width, 3] of `camera.view_size`.

        Without rectifying, crop and resizing an rgb8 image without padding is not copied.

        Raises:
            ImageError: it cannot be converted, has another size than the profile says, or cannot be rectified; a
                sentence about the image goes on with the message.
        """
        try:
            image = to_rgb(message)
        except ImageError as error:
            raise ImageError(f'cannot be converted to rgb8: {error}') from error
        height, width = image.shape[:2]
        if (width, height) != (self.camera.width, self.camera.height):
            raise ImageError(
                f'has {width}x{height} pixels, but the profile says {self.camera.width}x{self.camera.height}; correct '
                'one of them'
            )
        if self._problem:
            raise ImageError(self._problem)
        if self._maps is None:
            return framed(self.camera, image)
        import cv2

        return resized(self.camera, cv2.remap(image, *self._maps, cv2.INTER_LINEAR))

    def _refusal(self, info: Any) -> str:
        camera, where = self.camera, f'cannot be rectified: {self.camera.info_topic}'
        if (info.width, info.height) != (camera.width, camera.height):
            return (
                f'{where} is for {info.width}x{info.height} pixels, but the profile says {camera.width}x'
                f'{camera.height}; calibrate the camera in the size in which it runs'
            )
        if max(info.binning_x, info.binning_y) > 1 or info.roi.x_offset or info.roi.y_offset:
            return f'{where} tells of binning or a region of interest; turn them off in the driver, and use crop'
        if not info.k[0] or not info.k[4]:
            return f'{where} holds no calibration; calibrate the camera, or leave rectify out of the profile'
        if info.distortion_model not in (*PINHOLES, FISHEYE):
            return f"{where} has the distortion model '{info.distortion_model}'; {FISHEYE} and {PINHOLES[1:]} are known"
        numbers, known = len(_distortion(info)), COEFFICIENTS[info.distortion_model == FISHEYE]
        if numbers not in known:
            return (
                f"{where} has {numbers} distortion coefficients for the model '{info.distortion_model}', which has one "
                f'of {known}; calibrate the camera'
            )
        return ''

    def _undistortion(
        self, matrix: np.ndarray, distortion: np.ndarray, rotation: np.ndarray, projection: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Say for each pixel of the crop where it is in the image, in the form that OpenCV is fastest with."""
        import cv2

        camera = self.camera
        matrix, rotation, projection = matrix.reshape(3, 3), rotation.reshape(3, 3), projection.reshape(3, 4)[:, :3]
        fisheye = self._calibration[2] == FISHEYE
        maps = (cv2.fisheye if fisheye else cv2).initUndistortRectifyMap(
            matrix,
            distortion,
            rotation if rotation.any() else np.eye(3),
            projection if projection.any() else matrix,
            (camera.width, camera.height),
            cv2.CV_16SC2,
        )
        x, y, width, height = camera.crop or (0, 0, camera.width, camera.height)
        return tuple(np.ascontiguousarray(each[y : y + height, x : x + width]) for each in maps)


def _distortion(info: Any) -> Sequence[float]:
    """Return the coefficients; drivers of fisheye cameras add a fifth one that means nothing, a zero."""
    padded = info.distortion_model == FISHEYE and len(info.d) == 5 and info.d[4] == 0.0
    return info.d[:4] if padded else info.d
