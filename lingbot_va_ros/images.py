"""Camera messages as RGB arrays: what perception encodes live is what a bag gives."""

from typing import Any

import numpy as np

CHANNELS = {'rgb': (0, 1, 2), 'bgr': (2, 1, 0), 'rgba': (0, 1, 2), 'bgra': (2, 1, 0), 'mono': (0, 0, 0)}
DEPTHS = {'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4, 'mono': 1}
BITS = {'8': np.uint8, '16': np.uint16}
COLOURS = {f'{order}{bits}': (order, BITS[bits]) for order in CHANNELS for bits in BITS}
YUV = {'yuv422': 'UYVY', 'uyvy': 'UYVY', 'yuv422_yuy2': 'YUY2', 'yuyv': 'YUY2'}  # two bytes a pixel; OpenCV's names
FULL_SCALE = 257.0  # of 16 bits against 8


class ImageError(ValueError):
    """An image that cannot be converted to rgb8, or is not what the profile says."""


def to_rgb(image: Any) -> np.ndarray:
    """Return a sensor_msgs Image or CompressedImage as uint8 RGB [H, W, 3].

    `image` has the fields of the message, in the classes of rclpy or of rosbags. Of rgb8 without padding no copy is
    made. Encodings that are not known here are left to cv_bridge, where it is installed.

    Raises:
        ImageError: the encoding is unknown, or the data does not fit it.
    """
    if hasattr(image, 'format'):
        return _decompressed(image)
    if image.encoding in YUV:
        import cv2

        code = getattr(cv2, f'COLOR_YUV2RGB_{YUV[image.encoding]}')
        return cv2.cvtColor(np.ascontiguousarray(_pixels(image, np.dtype(np.uint8), 2)), code)
    if image.encoding not in COLOURS:
        return _converted(image)
    order, number = COLOURS[image.encoding]
    wide = np.dtype(number).newbyteorder('>' if image.is_bigendian else '<')
    pixels = _pixels(image, wide, DEPTHS[order])
    if number is np.uint16:
        pixels = np.rint(pixels / np.float32(FULL_SCALE)).astype(np.uint8)
    return np.ascontiguousarray(pixels if order == 'rgb' else pixels[..., CHANNELS[order]])


def image_kind(image: Any) -> tuple:
    """Return what images must have in common for `to_rgb` to work for all if it works for one; cheap."""
    if hasattr(image, 'format'):
        return (image.format,)
    return image.width, image.height, image.encoding, image.step, len(image.data)


def _pixels(image: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """View the data of an Image as [H, W, channels], without the padding of its rows."""
    size, width = len(image.data), image.width * channels * dtype.itemsize
    if size != image.height * image.step or image.step < width:
        raise ImageError(
            f'{size} bytes do not make {image.height} rows of {image.step} bytes with {image.width} pixels of '
            f'{image.encoding}'
        )
    rows = np.frombuffer(image.data, dtype=np.uint8).reshape(image.height, image.step)[:, :width]
    return rows.view(dtype).reshape(image.height, image.width, channels)


def _converted(image: Any) -> np.ndarray:
    """Convert any other encoding as cv_bridge does."""
    import cv2
    from cv_bridge import CvBridge, CvBridgeError

    try:
        return CvBridge().imgmsg_to_cv2(image, 'rgb8')
    except (CvBridgeError, cv2.error, ValueError, TypeError, KeyError) as error:
        lines = str(error).strip().splitlines()
        raise ImageError(
            f"encoding '{image.encoding}', {len(image.data)} bytes: {lines[-1] if lines else type(error).__name__}; "
            'publish rgb8 or bgr8'
        ) from error


def _decompressed(image: Any) -> np.ndarray:
    """Decode JPEG, PNG and what else OpenCV knows, of 8 bits."""
    import cv2

    data = np.frombuffer(image.data, dtype=np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if decoded is None:
        raise ImageError(f"{len(data)} bytes of format '{image.format}' cannot be decoded")
    return np.ascontiguousarray(decoded[..., ::-1])
