"""The Wan2.2 video VAE: diffusers' layers and weights, with a streaming state of its own."""

from typing import Any

import torch
from torch import Tensor, nn

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT as FRAMES
from lingbot_va_core.config import WanVAEConfig
from lingbot_va_core.vae import VAEError, VAEState, check_frames

REPEAT = 'Rep'  # what diffusers' decoder notes in place of features that it did not compute for the first frame


class WanVAE(nn.Module):
    """AutoencoderKLWan behind the `VideoVAE` protocol; its state dict is that of the released `vae` folder.

    The state holds the last frames that each causal convolution has seen. A clip runs latent by latent, so that memory
    does not grow with its length and cutting it elsewhere changes no bit of the result.
    """

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.latent_channels, self.stride, self._patch = config.latent_channels, config.stride, config.patch_size
        layers = wan_autoencoder(config)
        self.encoder, self.quant_conv = layers.encoder, layers.quant_conv
        self.post_quant_conv, self.decoder = layers.post_quant_conv, layers.decoder
        # Not buffers: they come with the configuration, not with the weights, also where those are still on 'meta'.
        self._mean = torch.tensor(config.latents_mean, device='cpu').view(-1, 1, 1, 1)
        self._std = torch.tensor(config.latents_std, device='cpu').view(-1, 1, 1, 1)

    def encode(self, frames: Tensor, state: VAEState | None) -> tuple[Tensor, VAEState]:
        """See `VideoVAE.encode`; raises VAEError for a wrong number of frames or size, or a state of another stream."""
        check_frames(frames, state, self.stride)
        weight = self.quant_conv.weight
        folded = fold(frames.to(weight.device, weight.dtype), self._patch)
        means, begin = [], 0
        while begin < folded.shape[2]:
            end = begin + (1 if state is None else FRAMES)
            features, state = _advance(self.encoder, folded[:, :, begin:end], state)
            begin = end
            means.append(self.quant_conv(features).chunk(2, dim=1)[0])
        mean, std = self._statistics(weight.device)
        return (torch.cat(means, dim=2).float() - mean) / std, state

    def decode(self, latents: Tensor, state: VAEState | None) -> tuple[Tensor, VAEState]:
        """See `VideoVAE.decode`; raises VAEError for a state of another stream. Frames are clamped to -1..1."""
        weight = self.post_quant_conv.weight
        mean, std = self._statistics(weight.device)
        scaled = (latents.to(weight.device, torch.float32) * std + mean).to(weight.dtype)
        frames = []
        for latent in scaled.split(1, dim=2):
            features = self.post_quant_conv(latent)
            images, state = _advance(self.decoder, features, state, first_chunk=state is None)
            frames.append(unfold(images, self._patch).float().clamp_(-1.0, 1.0))
        return torch.cat(frames, dim=2), state

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._mean.device != device:
            self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self._mean, self._std


def wan_autoencoder(config: WanVAEConfig) -> Any:
    """Build diffusers' AutoencoderKLWan of a configuration, whose clip encoder and decoder are not used here."""
    from diffusers import AutoencoderKLWan

    folded = 3 * config.patch_size**2
    return AutoencoderKLWan(
        base_dim=config.base_dim,
        decoder_base_dim=config.decoder_base_dim,
        z_dim=config.latent_channels,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks,
        temperal_downsample=list(config.temporal_downsample),
        is_residual=True,
        in_channels=folded,
        out_channels=folded,
        patch_size=config.patch_size,
        scale_factor_spatial=config.stride,
        scale_factor_temporal=FRAMES,
    )


def fold(frames: Tensor, patch: int) -> Tensor:
    """Fold squares of pixels into channels: [B, C, T, H, W] to [B, C patch patch, T, H / patch, W / patch].

    Channels count up by colour, then column, then row within the square.
    """
    squares = frames.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # [B, C, T, H, row, W, column]
    return squares.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def unfold(folded: Tensor, patch: int) -> Tensor:
    """Undo `fold`."""
    squares = folded.unflatten(1, (-1, patch, patch))  # [B, C, column, row, T, H, W]
    return squares.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)


def _advance(part: nn.Module, x: Tensor, state: VAEState | None, **options: Any) -> tuple[Tensor, VAEState]:
    """Run encoder or decoder on the next piece of a stream.

    The layers replace the entries of a list, in the order in which they run, and never write into a tensor of it.
    """
    if state is None:
        features: list[Any] = [None] * sum(isinstance(layer, nn.Conv3d) for layer in part.modules())
    else:
        features = [entry if entry.numel() else REPEAT for entry in state]
        _check_state(x, state[0])
    position = [0]
    y = part(x, feat_cache=features, feat_idx=position, **options)
    return y, tuple(x.new_empty(0) if isinstance(entry, str) else entry for entry in features[: position[0]])


def _check_state(x: Tensor, first: Tensor) -> None:
    ours, theirs = (x.shape[0], *x.shape[3:]), (first.shape[0], *first.shape[3:])
    if ours != theirs:
        raise VAEError(f'the state belongs to {theirs[0]} streams of {theirs[1:]}, not to {ours[0]} of {ours[1:]}')
