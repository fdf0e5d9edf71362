"""What is written to a feed is what a camera's view gives back."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from builtin_interfaces.msg import Time

from lingbot_va_core.robot import Camera
from lingbot_va_ros.camera_feed import CameraFeed
from lingbot_va_ros.camera_view import CameraView

CAMERA = Camera('head', 'head/image_raw', 'head/camera_info', 'head', 64, 48)
RAMP = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None] // np.array([1, 2, 4], np.uint8) + np.zeros(
    (48, 1, 1), np.uint8
)


def test_images_are_the_pixels_and_compressed_ones_nearly() -> None:
    for transport, error in (('raw', 0), ('compressed', 6)):
        camera, images, infos = replace(CAMERA, transport=transport), [], []
        feed = CameraFeed(camera, SimpleNamespace(publish=images.append), SimpleNamespace(publish=infos.append))
        feed.set_intrinsics(50.0, 50.0, 31.5, 23.5)
        feed.pixels[:] = RAMP
        feed.publish(Time(sec=3))
        assert (images[0].header.stamp.sec, images[0].header.frame_id, infos[0].header) == (3, 'head', images[0].header)
        assert np.abs(CameraView(camera).rgb(images[0]).astype(int) - RAMP).max() <= error
        rectifying = CameraView(replace(camera, rectify=True))
        rectifying.calibrate(infos[0])
        assert np.abs(rectifying.rgb(images[0]).astype(int) - RAMP).max() <= error + 1


def test_the_pixels_are_those_of_the_message_where_messages_are_not_checked() -> None:
    script = """
from lingbot_va_core.robot import Camera
from lingbot_va_ros.camera_feed import CameraFeed
feed = CameraFeed(Camera('head', 'head/image_raw', 'head/camera_info', 'head', 64, 48), None, None)
feed.pixels[:] = 7
assert set(feed._image.data) == {7}, set(feed._image.data)
"""
    environment = {name: value for name, value in os.environ.items() if name != 'ROS_PYTHON_CHECK_FIELDS'}
    environment['PYTHONPATH'] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
