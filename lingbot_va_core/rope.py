"""Rotary position embedding over latent frame, row and column."""

from functools import lru_cache

import torch
from torch import Tensor

THETA = 1e4


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Split a head into its parts for frame, row and column: rows and columns get the largest even third."""
    third = 2 * (head_dim // 6)
    return head_dim - 2 * third, third, third


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the result is kept, and training may need it too
def video_phases(head_dim: int, first: int, frames: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Unit phases of video tokens in (frame, row, column) order.

    Args:
        head_dim: size of a head.
        first: latent-frame index of the first frame since the episode's start.
        frames: number of frames.
        rows: rows of tokens per frame.
        columns: columns of tokens per frame.
        device: where the result lives.

    Returns:
        complex64 [frames * rows * columns, head_dim / 2].
    """
    axes = torch.arange(first, first + frames), torch.arange(rows), torch.arange(columns)
    return _phases(head_dim, *(axis.flatten() for axis in torch.meshgrid(*axes, indexing='ij'))).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # the result is kept, and training may need it too
def action_phases(head_dim: int, first: int, frames: int, actions: int, device: torch.device) -> Tensor:
    """Unit phases of action tokens: action k = 1..n of frame f sits at (f + k / (n + 1), -1, -1).

    Returns:
        complex64 [frames * actions, head_dim / 2].
    """
    frame = torch.arange(first, first + frames, dtype=torch.float64)
    offset = torch.arange(1, actions + 1, dtype=torch.float64) / (actions + 1)
    position = (frame[:, None] + offset).flatten()
    outside = torch.full_like(position, -1.0)
    return _phases(head_dim, position, outside, outside).to(device)


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """Rotate adjacent pairs of [B, L, heads, head_dim] by phases [L, head_dim / 2]; x's dtype.

    In float32, which differs from the released model's float64 by no more than the last bits of a float32 result.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases[:, None]).flatten(-2).type_as(x)


def _phases(head_dim: int, *positions: Tensor) -> Tensor:
    angles = []
    for dim, position in zip(axis_dims(head_dim), positions, strict=True):
        frequency = THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles.append(torch.outer(position.double(), frequency))
    angle = torch.cat(angles, dim=-1).float().double()  # the released model rounds the angle to float32
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
