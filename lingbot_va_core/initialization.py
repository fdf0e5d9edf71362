"""Weights of a fresh model: the same for the same seed on every machine, whatever the global random state."""

import math

import torch
from torch import Tensor, nn

from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.vae import TinyVAE

USED_CHANNELS = 14  # of a two-arm robot with six joints and a gripper each


def initialize_transformer(transformer: WorldTransformer, generator: torch.Generator) -> None:
    """Fill all weights; the residual branches start small and the heads undo the embedders.

    While the blocks add little, the head then returns about the noise that went in, which is what the velocity
    noise - x0 asks for when nothing is known of x0. An untrained model thus imagines and does what its blocks add to
    that: something smooth that depends on image, instruction and time, and not a copy of the noise.
    """
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            _normal(module.weight, 1.0 / math.sqrt(module.in_features), generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
            if isinstance(module, nn.LayerNorm):
                nn.init.zeros_(module.bias)
    for name, parameter in transformer.named_parameters():
        if name.endswith('scale_shift_table'):
            _normal(parameter, 0.02, generator)
            if parameter.shape[1] == 6:
                parameter.data[:, (2, 5)] += BRANCH_GATE
    for condition in (transformer.condition_embedder, transformer.condition_embedder_action):
        _normal(condition.time_proj.weight, 0.02, generator)
    _tie(transformer.patch_embedding_mlp, transformer.proj_out, transformer.config.patch_channels, generator)
    _tie(transformer.action_embedder, transformer.action_proj_out, USED_CHANNELS, generator)


BRANCH_GATE = 0.3


def initialize_vae(vae: TinyVAE, generator: torch.Generator) -> None:
    """Fill all weights and scale the latents to unit variance on smooth random images."""
    for module in vae.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            _normal(module.weight, 1.0 / math.sqrt(fan_in), generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.zeros_(vae.latent_mean)
    nn.init.ones_(vae.latent_std)
    coarse = torch.rand((4, 3, 9, 6, 6), generator=generator) * 2 - 1
    clip = nn.functional.interpolate(coarse, size=(9, 4 * vae.stride, 4 * vae.stride), mode='trilinear')
    with torch.no_grad():
        vae.calibrate(clip)


def _tie(embed: nn.Linear, head: nn.Linear, channels: int, generator: torch.Generator) -> None:
    """Give `embed` orthonormal columns (or rows) and make `head` its inverse behind a LayerNorm.

    An embedded token whose `channels` numbers have unit variance leaves the LayerNorm sqrt(width / channels) times as
    large as it came in.
    """
    width, inputs = embed.weight.shape
    square = torch.empty(max(width, inputs), min(width, inputs)).normal_(generator=generator)
    basis = torch.linalg.qr(square)[0]
    columns = basis if width >= inputs else basis.T
    with torch.no_grad():
        embed.weight.copy_(columns)
        head.weight.copy_(columns.T * math.sqrt(channels / width))


def _normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        tensor.copy_(torch.empty(tensor.shape).normal_(generator=generator) * deviation)
