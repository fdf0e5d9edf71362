"""Camera images to canvas latents and back, one latent frame after the other."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lingbot_va_core.canvas import CanvasError, join, split, to_images, to_pixels
from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.vae import VAEError, VAEState, VideoVAE

StreamState = tuple[VAEState, ...] | None


def save_state(state: StreamState, path: Path | str) -> None:
    """Write the state of a stream as safetensors, whole or not at all; tensors are named `<group>.<index>`."""
    path = Path(path)
    tensors = {f'{group}.{i}': tensor for group, own in enumerate(state or ()) for i, tensor in enumerate(own)}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.') as scratch:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, Path(scratch) / 'state')
        (Path(scratch) / 'state').replace(path)


def load_state(path: Path | str, device: torch.device | str = 'cpu') -> StreamState:
    """Read what `save_state` wrote; raises VAEError for anything else."""
    try:
        tensors = load_file(path, device=str(device))
        groups: dict[int, dict[int, Tensor]] = {}
        for name, tensor in tensors.items():
            group, index = map(int, name.split('.'))
            groups.setdefault(group, {})[index] = tensor
        return tuple(tuple(own[i] for i in range(len(own))) for _, own in sorted(groups.items())) or None
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise VAEError(f'{path} is not the saved state of a stream: {error}') from error


class _CameraStream:
    """What both directions share: the cameras, grouped by view size, and one VAE state per group."""

    def __init__(
        self, vae: VideoVAE, rollout: RolloutConfig, cameras: int | None = None, device: torch.device | str = 'cpu'
    ) -> None:
        if cameras not in (None, rollout.cameras):
            raise CanvasError(f'{cameras} cameras were given, but the model was made for {rollout.cameras}')
        self._vae, self._rollout, self._device = vae, rollout, torch.device(device)
        sizes = rollout.view_sizes
        self._groups = [[i for i, s in enumerate(sizes) if s == size] for size in dict.fromkeys(sizes)]
        self.state: StreamState = None

    def reset(self) -> None:
        """Forget the past: the next frame is the first one of an episode."""
        self.state = None


class StreamingEncoder(_CameraStream):
    """Encodes synchronized camera images. `state` is a snapshot: assign an earlier one to go back to it.

    Views of one size run as one batch; the half-size wrist views of `tshape` therefore have a state of their own.
    """

    @torch.inference_mode()
    def encode(self, frames: Sequence[Sequence[np.ndarray]]) -> Tensor:
        """Encode uint8 RGB images [H, W, 3], `frames[time][camera]`: 1 after a reset, later a multiple of 4.

        Returns:
            float32 [F, C, h, w] on the CPU, F = 1 at the start and then len(frames) / 4.

        Raises:
            CanvasError: wrong number of cameras, or an image that is not uint8 RGB.
            VAEError: wrong number of frames; the state is unchanged.
        """
        for images in frames:
            if len(images) != self._rollout.cameras:
                raise CanvasError(f'a frame has {len(images)} images; give one for each of {self._rollout.cameras}')
        views: dict[int, Tensor] = {}
        states = []
        for number, group in enumerate(self._groups):
            size = self._rollout.view_sizes[group[0]]
            clips = [to_pixels([images[camera] for images in frames], size, self._device) for camera in group]
            pixels = torch.stack(clips).transpose(1, 2)  # [cameras, 3, T, H, W]
            latents, state = self._vae.encode(pixels, self.state[number] if self.state else None)
            views.update(zip(group, latents, strict=True))
            states.append(state)
        self.state = tuple(states)
        canvas = join(self._rollout.camera_layout, [views[camera] for camera in range(self._rollout.cameras)])
        return canvas.transpose(0, 1).float().cpu().contiguous()


class StreamingDecoder(_CameraStream):
    """Decodes canvas latents into the images of each camera."""

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> list[list[np.ndarray]]:
        """Decode [F, C, h, w] into uint8 RGB images [H, W, 3], `result[time][camera]`.

        The first latent after a reset gives one frame, every other one four.
        """
        canvas = latents.to(self._device).transpose(0, 1)  # [C, F, h, w]
        views = split(self._rollout.camera_layout, canvas, self._rollout.cameras)
        images: dict[int, np.ndarray] = {}
        states = []
        for number, group in enumerate(self._groups):
            batch = torch.stack([views[camera] for camera in group])
            pixels, state = self._vae.decode(batch, self.state[number] if self.state else None)
            images.update(zip(group, to_images(pixels.transpose(1, 2)), strict=True))
            states.append(state)
        self.state = tuple(states)
        return [[images[camera][time] for camera in range(len(images))] for time in range(len(images[0]))]
