"""Weights of a fresh model: the same for the same seed on every machine, whatever the global random state."""

import math

import torch
from torch import Tensor, nn

from lingbot_va_core.transformer import Block, ConditionEmbedder, WorldTransformer
from lingbot_va_core.vae import TinyVAE

USED_CHANNELS = 14  # of a two-arm robot with six joints and a gripper each
CARRIER = 3.0  # length of an embedder's bias against that of an embedded token
HEAD_GAIN = 2.0
ATTENTION_GATE, FEED_FORWARD_GATE, TEXT_GAIN = 0.3, 0.1, 0.3


def initialize_transformer(transformer: WorldTransformer, generator: torch.Generator) -> None:
    """Fill all weights; the residual branches start small and the heads undo the embedders.

    While the blocks add little, the velocity is then about the noise that went in (HEAD_GAIN times it, as its share of
    the sample falls with sigma), and denoising removes it. What remains is what the blocks add: an untrained model
    imagines and does something bounded that depends on images, instruction and noise, and is not the noise itself.
    """
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            _normal(module.weight, 1.0 / math.sqrt(module.in_features), generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RMSNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
            if isinstance(module, nn.LayerNorm):
                nn.init.zeros_(module.bias)
    for module in transformer.modules():
        if isinstance(module, ConditionEmbedder):
            _normal(module.time_proj.weight, 0.02, generator)
        elif isinstance(module, Block):
            module.attn2.to_out[0].weight.data.mul_(TEXT_GAIN)
            _normal(module.scale_shift_table, 0.02, generator)
            module.scale_shift_table.data[:, 2].add_(ATTENTION_GATE)
            module.scale_shift_table.data[:, 5].add_(FEED_FORWARD_GATE)
    for table in transformer.parameters(recurse=False):
        _normal(table, 0.02, generator)
    _tie(transformer.patch_embedding_mlp, transformer.proj_out, transformer.config.patch_channels, generator)
    _tie(transformer.action_embedder, transformer.action_proj_out, USED_CHANNELS, generator)


def initialize_vae(vae: nn.Module, generator: torch.Generator) -> None:
    """Fill all weights; a TinyVAE also scales its latents to unit variance on smooth random images."""
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            _normal(module.weight, 1.0 / math.sqrt(module.weight[0].numel()), generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for name, weight in vae.named_parameters():
        if name.endswith('.gamma'):  # RMSNorm of the Wan VAE
            nn.init.ones_(weight)
    if not isinstance(vae, TinyVAE):
        return
    nn.init.zeros_(vae.latent_mean)
    nn.init.ones_(vae.latent_std)
    coarse = torch.rand((4, 3, 9, 6, 6), generator=generator) * 2 - 1
    clip = nn.functional.interpolate(coarse, size=(9, 4 * vae.stride, 4 * vae.stride), mode='trilinear')
    with torch.no_grad():
        vae.calibrate(clip)


def _tie(embed: nn.Linear, head: nn.Linear, channels: int, generator: torch.Generator) -> None:
    """Make `head` undo `embed` behind a LayerNorm, for tokens with `channels` numbers of about unit variance.

    The columns of `embed` are orthonormal, and its bias is orthogonal to them and so long that the LayerNorm divides
    all tokens by nearly the same number. Needs a width above the number of inputs; else nothing is changed.
    """
    width, inputs = embed.weight.shape
    if width <= inputs + 1:
        return
    random = torch.empty(width, inputs + 1).normal_(generator=generator)
    basis = torch.linalg.qr(random - random.mean(dim=0))[0]  # zero mean, which the LayerNorm would remove
    deviation = math.sqrt(channels * (1.0 + CARRIER**2) / width)
    with torch.no_grad():
        embed.weight.copy_(basis[:, :inputs])
        embed.bias.copy_(basis[:, inputs] * CARRIER * math.sqrt(channels))
        head.weight.copy_(basis[:, :inputs].T * HEAD_GAIN * deviation)


def _normal(tensor: Tensor, deviation: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        tensor.copy_(torch.empty(tensor.shape).normal_(generator=generator) * deviation)
