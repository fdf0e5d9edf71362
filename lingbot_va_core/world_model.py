"""A whole model with everything that it needs to run, and how its parts are built from a configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingbot_va_core.config import ModelConfig
from lingbot_va_core.hub import HubError, locate
from lingbot_va_core.minilm import MiniLMTextEncoder
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.text import HashedTextEncoder, KnownPrompts, TextEncoder
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.umt5 import UMT5TextEncoder
from lingbot_va_core.vae import VideoVAE, build_vae
from lingbot_va_core.weights import load_weights

PARTS = ('transformer', 'vae')


@dataclass
class WorldModel:
    """A model with everything that it needs to run.

    Attributes:
        name: for provenance, such as 'tiny (untrained, seed 0)'.
        device, dtype: of the transformer; the VAE runs in float32 on the same device.
        transformer, vae: one of them is on the meta device, without memory, where only the other was loaded.
        training: what is known of the runs that it comes from, in their order, see `training.record`; empty: nothing.
    """

    name: str
    config: ModelConfig
    transformer: WorldTransformer
    vae: VideoVAE
    text: TextEncoder
    normalizer: ActionNormalizer
    device: torch.device
    dtype: torch.dtype
    training: tuple[Mapping[str, Any], ...] = ()


def skeleton(
    name: str, config: ModelConfig, normalizer: ActionNormalizer, device: torch.device, dtype: torch.dtype
) -> WorldModel:
    """Build the parts without memory for their weights."""
    with torch.device('meta'):
        transformer, vae = WorldTransformer(config.transformer), build_vae(config.vae)
    text = build_text_encoder(config)
    return WorldModel(name, config, transformer.eval(), vae.eval(), text, normalizer, device, dtype)


def load_parts(
    model: WorldModel,
    files: Mapping[str, Sequence[Path]],
    device: torch.device,
    dtype: torch.dtype | None,
    parts: Sequence[str],
    prefix: str = '',
) -> None:
    """Give parts of a skeleton their weights, in whatever layout they are stored.

    Args:
        model: from `skeleton`.
        files: of each part.
        device: of the parts.
        dtype: of the transformer; the VAE runs in float32. None: each weight of both as it is stored.
        parts: which of `PARTS`.
        prefix: of the transformer's names in its files.

    Raises:
        CheckpointError: see `load_weights`.
    """
    if 'transformer' in parts:
        load_weights(model.transformer, files['transformer'], device, dtype, prefix)
    if 'vae' in parts:
        load_weights(model.vae, files['vae'], device, dtype and torch.float32)


def build_text_encoder(config: ModelConfig, known: Mapping[str, Tensor] | None = None) -> TextEncoder:
    """Build the text encoder; its weights are loaded when the first instruction is encoded.

    Args:
        config: of the model.
        known: embeddings of instructions that need no encoder, see `KnownPrompts`; raises TextError where one has a
            wrong shape.
    """
    text, dim = config.text, config.transformer.text_dim
    encoder: TextEncoder
    if text.kind == 'minilm':
        encoder = MiniLMTextEncoder(text.length)
    elif text.kind == 'umt5':
        encoder = UMT5TextEncoder(lambda: _umt5_folder(text.source), dim, text.length)
    else:
        encoder = HashedTextEncoder(dim, text.length)
    return KnownPrompts(known, encoder) if known else encoder


def _umt5_folder(source: str | None) -> Path:
    if source is None:
        raise HubError('the configuration names no source of its weights')
    return locate(source, include=('text_encoder/*', 'tokenizer/*'))
