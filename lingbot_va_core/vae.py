"""The causal video VAE behind one streaming protocol, and the small one of the tiny preset."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT as FRAMES
from lingbot_va_core.config import VAEConfig, WanVAEConfig

VAEState = tuple[Tensor, ...]
UNFOLD = 4  # pixels of one side that are folded into channels


class VAEError(ValueError):
    """Frames or latents of a shape that the VAE cannot take."""


class VideoVAE(Protocol):
    """A causal video VAE with explicit streaming state.

    The state is None at the start of a clip, then whatever the last call returned: a tuple of tensors that is never
    changed in place, so keeping a reference is a snapshot. The first latent stands for one frame, every later one for
    four; a clip may be cut between latents anywhere without changing the result.
    """

    latent_channels: int
    stride: int

    def encode(self, frames: Tensor, state: VAEState | None) -> tuple[Tensor, VAEState]:
        """Encode [B, 3, T, H, W] in -1..1 into [B, C, F, H / stride, W / stride] of about unit variance.

        T is 1 + 4 (F - 1) where the state is None, else 4 F.
        """
        ...

    def decode(self, latents: Tensor, state: VAEState | None) -> tuple[Tensor, VAEState]:
        """Decode [B, C, F, h, w] into [B, 3, T, h * stride, w * stride], about -1..1."""
        ...


def build_vae(config: VAEConfig | WanVAEConfig) -> nn.Module:
    """Make the VAE that a configuration asks for, a `VideoVAE` with weights to be filled."""
    if isinstance(config, VAEConfig):
        return TinyVAE(config)
    from lingbot_va_core.wan_vae import WanVAE  # needs diffusers

    return WanVAE(config)


def check_frames(frames: Tensor, state: VAEState | None, stride: int) -> None:
    """Raise VAEError unless `frames` [B, 3, T, H, W] continue a stream of which `state` is the state."""
    count, height, width = frames.shape[2:]
    extra = 1 if state is None else 0
    if count < 1 or (count - extra) % FRAMES:
        expected = '1 + 4 n frames at the start of a clip' if state is None else 'a multiple of 4 frames'
        raise VAEError(f'encode got {count} frames; give {expected}')
    if height % stride or width % stride:
        raise VAEError(f'encode got {height}x{width} pixels; give multiples of {stride}')


class TinyVAE(nn.Module):
    """A small causal VAE: a latent sees its four frames and the last one before them.

    The encoder folds these five frames (the first frame of a clip repeated) and 4x4 pixels into channels, so all its
    convolutions are two-dimensional and its only state is one frame. The decoder turns a latent and the one before it
    into four frames; its state is one latent.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.latent_channels, self.stride = config.latent_channels, config.stride
        quarter, eighth, sixteenth = config.widths
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(UNFOLD),
            nn.Conv2d(3 * (FRAMES + 1) * UNFOLD**2, quarter, 1),
            nn.SiLU(),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            Residual(eighth, 3),
            nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1),
            Residual(sixteenth, 1),
            nn.GroupNorm(8, sixteenth),
            nn.SiLU(),
            nn.Conv2d(sixteenth, 2 * self.latent_channels, 1),  # mean and log variance
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * self.latent_channels, sixteenth, 3, padding=1),
            Residual(sixteenth, 1),
            nn.Conv2d(sixteenth, 4 * eighth, 1),
            nn.PixelShuffle(2),
            Residual(eighth, 3),
            nn.Conv2d(eighth, 4 * quarter, 1),
            nn.PixelShuffle(2),
            Residual(quarter, 1),
            nn.GroupNorm(8, quarter),
            nn.SiLU(),
            nn.Conv2d(quarter, 3 * FRAMES * UNFOLD**2, 1),
            nn.PixelShuffle(UNFOLD),
        )
        self.register_buffer('latent_mean', torch.zeros(self.latent_channels))
        self.register_buffer('latent_std', torch.ones(self.latent_channels))

    def encode(self, frames: Tensor, state: VAEState | None) -> tuple[Tensor, VAEState]:
        """See `VideoVAE.encode`; raises VAEError for a wrong number of frames or size."""
        mean, _, state = self.posterior(frames, state)
        scale = (-1, 1, 1, 1)
        return (mean - self.latent_mean.view(scale)) / self.latent_std.view(scale), state

    def posterior(self, frames: Tensor, state: VAEState | None) -> tuple[Tensor, Tensor, VAEState]:
        """Return mean and log variance [B, C, F, h, w] before they are scaled to unit variance, and the state."""
        check_frames(frames, state, self.stride)
        if state is None:
            first = frames[:, :, :1]
            clip = torch.cat([first.expand(-1, -1, FRAMES, -1, -1), frames], dim=2)
        else:
            clip = torch.cat([state[0], frames], dim=2)
        windows = clip.unfold(2, FRAMES + 1, FRAMES)  # [B, 3, F, H, W, 5]
        batch, count = windows.shape[0], windows.shape[2]
        folded = windows.permute(0, 2, 5, 1, 3, 4).flatten(2, 3).flatten(0, 1)  # [B F, 15, H, W]
        moments = self.encoder(folded).unflatten(0, (batch, count)).transpose(1, 2)
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance, (frames[:, :, -1:].clone(),)

    def decode(self, latents: Tensor, state: VAEState | None) -> tuple[Tensor, VAEState]:
        """See `VideoVAE.decode`."""
        previous = latents[:, :, :1] if state is None else state[0]
        before = torch.cat([previous, latents[:, :, :-1]], dim=2)
        scale = (-1, 1, 1, 1)
        pairs = torch.cat([before, latents], dim=1) * self.latent_std.repeat(2).view(scale)
        pairs = pairs + self.latent_mean.repeat(2).view(scale)
        batch, _, count = latents.shape[:3]
        frames = self.decoder(pairs.transpose(1, 2).flatten(0, 1))  # [B F, 12, H, W]
        frames = frames.unflatten(1, (FRAMES, 3)).unflatten(0, (batch, count)).flatten(1, 2).transpose(1, 2)
        if state is None:
            frames = frames[:, :, FRAMES - 1 :]  # the first latent stands for one frame
        return frames, (latents[:, :, -1:].clone(),)

    def calibrate(self, frames: Tensor) -> None:
        """Set the latents' scaling so that the clip `frames` [B, 3, 1 + 4 F, H, W] encodes to mean 0, deviation 1."""
        mean, _, _ = self.posterior(frames, None)
        self.latent_mean.copy_(mean.mean(dim=(0, 2, 3, 4)))
        self.latent_std.copy_(mean.std(dim=(0, 2, 3, 4)).clamp_min(1e-3))


class Residual(nn.Module):
    """x + conv(silu(norm(conv3x3(silu(norm(x)))))); the second convolution has the given kernel size."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to the same shape."""
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))
