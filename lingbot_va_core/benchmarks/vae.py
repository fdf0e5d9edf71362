"""What encoding costs as a stream, four frames at a time, against the whole clip at once.

The clip goes through what the library offers for that: diffusers' `AutoencoderKLWan.encode` for the Wan VAE, one call
for all frames for the tiny one. A stream that must not wait for the end of the clip has nothing else to compare with:
with the clip encoder, a new latent would cost the whole clip again.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from lingbot_va_core.benchmarks.models import check_counts
from lingbot_va_core.benchmarks.timing import spread, timed
from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT as FRAMES
from lingbot_va_core.config import ConfigError, VAEConfig, WanVAEConfig
from lingbot_va_core.golden import relative_error
from lingbot_va_core.initialization import initialize_vae
from lingbot_va_core.vae import build_vae
from lingbot_va_core.wan_vae import wan_autoencoder

TOLERANCE = 1e-4


@torch.inference_mode()
def measure_vae(
    config: VAEConfig | WanVAEConfig, size: tuple[int, int], latents: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Measure one camera in float32.

    Args:
        config: of the VAE; its weights are random.
        size: height and width of the view.
        latents: latent frames of the clip behind the first one.
        repeats: clips.
        device: where it runs.

    Returns:
        Time of one latent frame in a stream, of the whole clip at once, and both per video frame; the largest
        difference of the latents, relative to the largest of them.

    Raises:
        ConfigError: a count is below 1, or the size is no multiple of the stride.
    """
    check_counts(latents=latents, repeats=repeats)
    if size[0] % config.stride or size[1] % config.stride:
        raise ConfigError(f'a view of {size[0]}x{size[1]} pixels is no multiple of {config.stride}; choose another')
    vae = build_vae(config)
    initialize_vae(vae, torch.Generator().manual_seed(0))
    vae.to(device).eval()
    clip = torch.rand(1, 3, 1 + FRAMES * latents, *size, generator=torch.Generator().manual_seed(1)).to(device) * 2 - 1
    encode = clip_encoder(vae, config)
    step_s, clip_s, error = [], [], 0.0
    for _ in range(repeats):
        parts, state = [], None
        for frames in (clip[:, :, :1], *clip[:, :, 1:].split(FRAMES, dim=2)):
            (latent, state), took = timed(partial(vae.encode, frames, state), device)
            parts.append(latent)
            step_s.append(took)
        whole, took = timed(partial(encode, clip), device)
        clip_s.append(took)
        error = max(error, relative_error(torch.cat(parts, dim=2), whole))
        del step_s[-latents - 1]  # the first latent is one frame
    stream, at_once = spread(step_s), spread(clip_s)
    return {
        'vae': config.kind,
        'height': size[0],
        'width': size[1],
        'latent_frames': latents,
        'latent_ms': stream,
        'clip_ms': at_once,
        'frame_ms': {'ours': stream['p50'] / FRAMES, 'baseline': at_once['p50'] / clip.shape[2]},
        'newest_latent_ms': {'ours': stream['p50'], 'baseline': at_once['p50']},
        'speedup': at_once['p50'] / stream['p50'],
        'difference': {'latents': error, 'tolerance': TOLERANCE, 'agrees': error <= TOLERANCE},
    }


def clip_encoder(vae: nn.Module, config: VAEConfig | WanVAEConfig) -> Any:
    """Return a function that encodes [B, 3, T, H, W] at once into what `vae` gives, on the same weights."""
    if isinstance(config, VAEConfig):
        return lambda clip: vae.encode(clip, None)[0]
    with torch.device('meta'):
        library = wan_autoencoder(config)
    library.load_state_dict(vae.state_dict(), assign=True, strict=True)
    library.eval()
    device = next(vae.parameters()).device
    shape = (1, -1, 1, 1, 1)
    mean, std = (
        torch.tensor(values, device=device).view(shape) for values in (config.latents_mean, config.latents_std)
    )
    return lambda clip: (library.encode(clip).latent_dist.mode() - mean) / std
