"""Camera messages as RGB arrays: what perception encodes live is what a bag gives."""

from typing import Any

import numpy as np

CHANNELS = {'rgb8': (0, 1, 2), 'bgr8': (2, 1, 0), 'rgba8': (0, 1, 2), 'bgra8': (2, 1, 0), 'mono8': (0, 0, 0)}
DEPTHS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


class ImageError(ValueError):
    """An image that cannot be converted to rgb8."""


def to_rgb(image: Any) -> np.ndarray:
    """Return a sensor_msgs Image or CompressedImage as uint8 RGB [H, W, 3].

    `image` has the fields of the message, in the classes of rclpy or of rosbags. Of rgb8 without padding no copy is
    made.

    Raises:
        ImageError: the encoding is unknown, or the data does not fit it.
    """
    if hasattr(image, 'format'):
        return _decompressed(image)
    if image.encoding not in CHANNELS:
        return _converted(image)
    depth, data = DEPTHS[image.encoding], np.frombuffer(image.data, dtype=np.uint8)
    if len(data) != image.height * image.step or image.step < image.width * depth:
        raise ImageError(
            f'{len(data)} bytes do not make {image.height} rows of {image.step} bytes with {image.width} pixels of '
            f'{image.encoding}'
        )
    rows = data.reshape(image.height, image.step)
    pixels = rows[:, : image.width * depth].reshape(image.height, image.width, depth)
    return np.ascontiguousarray(pixels if image.encoding == 'rgb8' else pixels[..., CHANNELS[image.encoding]])


def _converted(image: Any) -> np.ndarray:
    """Convert any other encoding as cv_bridge does."""
    import cv2
    from cv_bridge import CvBridge, CvBridgeError

    try:
        return CvBridge().imgmsg_to_cv2(image, 'rgb8')
    except (CvBridgeError, cv2.error, ValueError, TypeError, KeyError) as error:
        lines = str(error).strip().splitlines()
        raise ImageError(lines[-1] if lines else type(error).__name__) from error


def _decompressed(image: Any) -> np.ndarray:
    """Decode JPEG, PNG and what else OpenCV knows, of 8 bits."""
    import cv2

    data = np.frombuffer(image.data, dtype=np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if decoded is None:
        raise ImageError(f"{len(data)} bytes of format '{image.format}' cannot be decoded")
    return np.ascontiguousarray(decoded[..., ::-1])
