"""The messages of one camera, allocated once and filled for every frame."""

from array import array
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from lingbot_va_core.robot import Camera


class CameraFeed:
    """Publishes what is written to `pixels` as an Image or a JPEG, as the profile has it, with its CameraInfo.

    Attributes:
        pixels: RGB, uint8 [height, width, 3]; of an Image this is the memory of the message.
    """

    def __init__(self, camera: Camera, image_publisher: Any, info_publisher: Any) -> None:
        self._image_publisher, self._info_publisher = image_publisher, info_publisher
        size = {'height': camera.height, 'width': camera.width}
        memory = array('B', bytes(camera.height * camera.width * 3))
        self._compressed = camera.transport == 'compressed'
        if self._compressed:
            self._image = CompressedImage(format='rgb8; jpeg compressed bgr8')  # as image_transport describes it
        else:
            self._image = Image(encoding='rgb8', step=camera.width * 3, **size)
            self._image.data = memory  # other types go byte by byte
            memory = self._image.data  # which may be a copy
        self.pixels = np.frombuffer(memory, np.uint8).reshape(camera.height, camera.width, 3)
        self._info = CameraInfo(distortion_model='plumb_bob', d=[0.0] * 5, roi=RegionOfInterest(**size), **size)
        self._image.header.frame_id = self._info.header.frame_id = camera.frame_id

    def set_intrinsics(self, fx: float, fy: float, cx: float, cy: float) -> None:
        """Describe a pinhole without distortion, in pixels."""
        self._info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
        self._info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        self._info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]

    def publish(self, stamp: Time) -> None:
        """Publish the pixels as they are now."""
        if self._compressed:
            self._image.data = array(
                'B', cv2.imencode('.jpg', cv2.cvtColor(self.pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
            )
        self._image.header.stamp = self._info.header.stamp = stamp
        self._image_publisher.publish(self._image)
        self._info_publisher.publish(self._info)
