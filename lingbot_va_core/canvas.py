"""The canvas: how the views of all cameras share one image, and how raw images become views.

`width` puts equal views side by side. `tshape` halves the two wrist views, puts them side by side and stacks them above
the head view; the first camera is the head.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 8  # from so many pixels for one on, it is faster to pick the four that each one is made of


class CanvasError(ValueError):
    """Images or latents that do not fit the camera layout."""


def view_sizes(layout: str, height: int, width: int, cameras: int) -> list[tuple[int, int]]:
    """Return (height, width) of each camera's view in pixels, in the order of the cameras."""
    if layout == 'tshape':
        return [(height, width)] + [(height // 2, width // 2)] * (cameras - 1)
    return [(height, width)] * cameras


def canvas_size(layout: str, height: int, width: int, cameras: int) -> tuple[int, int]:
    """Return (height, width) of the canvas in pixels."""
    return (height + height // 2, width) if layout == 'tshape' else (height, width * cameras)


def join(layout: str, views: Sequence[Tensor]) -> Tensor:
    """Join one [..., h, w] tensor per camera into the canvas [..., H, W]."""
    if layout == 'tshape':
        head, *wrists = views
        return torch.cat([torch.cat(wrists, dim=-1), head], dim=-2)
    return torch.cat(list(views), dim=-1)


def split(layout: str, canvas: Tensor, cameras: int) -> list[Tensor]:
    """Undo `join`: views into the canvas [..., H, W], one [..., h, w] per camera."""
    if layout == 'tshape':
        wrist_rows = canvas.shape[-2] // 3
        wrists, head = canvas[..., :wrist_rows, :], canvas[..., wrist_rows:, :]
        return [head, *wrists.chunk(cameras - 1, dim=-1)]
    return list(canvas.chunk(cameras, dim=-1))


def to_pixels(images: Sequence[np.ndarray], size: tuple[int, int], device: torch.device) -> Tensor:
    """Resize uint8 RGB images [H, W, 3] of one source size into float views.

    Returns:
        float32 [len(images), 3, *size] in -1..1: bilinear with half-pixel centres and without antialiasing, then
        x / 255 * 2 - 1, as the released checkpoints expect.

    Raises:
        CanvasError: an image is not uint8 [H, W, 3], or the images differ in size.
    """
    shapes = {image.shape for image in images}
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise CanvasError(f'an image is {image.dtype} {list(image.shape)}; give uint8 RGB [height, width, 3]')
    if len(shapes) > 1:
        raise CanvasError(f'a camera changed its image size within a batch: {sorted(shapes)}; keep it constant')
    height, width = images[0].shape[:2]
    if FEW * size[0] * size[1] <= height * width:
        pixels = _resize_sparsely(images, size, device)
    else:
        pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float()
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size=size, mode='bilinear', align_corners=False, antialias=False)
    return pixels.contiguous().div_(127.5).sub_(1.0)


def to_images(pixels: Tensor) -> np.ndarray:
    """Turn float pixels [..., 3, H, W] in -1..1 into uint8 RGB [..., H, W, 3]."""
    levels = pixels.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


def _resize_sparsely(images: Sequence[np.ndarray], size: tuple[int, int], device: torch.device) -> Tensor:
    """Resize as F.interpolate does, but touch (and send to the device) only the pixels that are read; [n, 3, *size]."""
    (above, below, down), (left, right, across) = (
        _neighbours(source, target) for source, target in zip(images[0].shape[:2], size, strict=True)
    )
    rows, columns = torch.cat([above, below]).numpy(), torch.cat([left, right]).numpy()
    read = np.stack([image.take(rows, axis=0).take(columns, axis=1) for image in images])
    pixels = torch.from_numpy(read).to(device).permute(0, 3, 1, 2).float()
    pixels = torch.lerp(*pixels.chunk(2, dim=2), down[:, None].to(device))
    return torch.lerp(*pixels.chunk(2, dim=3), across.to(device))


def _neighbours(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `target` pixels the two of `source` that it lies between, and how far it is from the first, 0..1."""
    scale = torch.tensor(source / target, dtype=torch.float32)
    position = (scale * (torch.arange(target, dtype=torch.float32) + 0.5) - 0.5).clamp(min=0.0)
    first = position.long().clamp(max=source - 1)
    return first, (first + 1).clamp(max=source - 1), position - first
