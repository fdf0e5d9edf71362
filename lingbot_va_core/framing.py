"""What of a camera's image becomes data, live and in data sets: the crop and the size that the profile says."""

import numpy as np

from lingbot_va_core.robot import Camera


def framed(camera: Camera, image: np.ndarray) -> np.ndarray:
    """Crop and resize an image.

    Args:
        camera: of the profile.
        image: uint8 RGB [camera.height, camera.width, 3].

    Returns:
        uint8 RGB [height, width, 3] of `camera.view_size`; without crop and resizing `image` itself.
    """
    if camera.crop is not None:
        x, y, width, height = camera.crop
        image = np.ascontiguousarray(image[y : y + height, x : x + width])
    return resized(camera, image)


def resized(camera: Camera, image: np.ndarray) -> np.ndarray:
    """Resize an image that is cropped already to `camera.view_size`: bilinear with half-pixel centres, antialiased."""
    width, height = camera.view_size
    if image.shape[:2] == (height, width):
        return image
    import torch  # most cameras need none
    import torch.nn.functional as F

    pixels = torch.from_numpy(np.require(image, requirements='W')).permute(2, 0, 1)[None]
    view = F.interpolate(pixels, size=(height, width), mode='bilinear', align_corners=False, antialias=True)
    return view[0].permute(1, 2, 0).contiguous().numpy()
