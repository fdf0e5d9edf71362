"""Untrained models to be measured: of any configuration, built where they run."""

from dataclasses import replace
from typing import Any

import torch

from lingbot_va_core.config import ConfigError, ModelConfig
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import preset
from lingbot_va_core.robot import load_profile
from lingbot_va_core.text import HashedTextEncoder
from lingbot_va_core.world_model import WorldModel, skeleton

ROBOT = 'aloha'
INSTRUCTION = 'transfer the cube'
SHORTCUTS = ('video_exec_step', 'video_s')


def configured(name: str, **changes: Any) -> ModelConfig:
    """Return a preset with other rollout settings; those that are None stay as they are.

    Another number of video steps runs them all.

    Raises:
        ConfigError: the preset is unknown, or the settings contradict each other.
    """
    config = preset(name)
    changes = {setting: value for setting, value in changes.items() if value is not None}
    if 'video_steps' in changes:
        changes = {**dict.fromkeys(SHORTCUTS), **changes}
    return replace(config, rollout=replace(config.rollout, **changes))


def build_model(
    config: ModelConfig, device: torch.device, dtype: torch.dtype, vae: bool = True, seed: int = 0
) -> WorldModel:
    """Build a model with random weights for `ROBOT`, and with text embeddings that need no weights.

    Args:
        config: what is built.
        device: where transformer and VAE are.
        dtype: of the transformer.
        vae: False: without memory for the VAE.
        seed: of the weights.
    """
    normalizer = ActionNormalizer.from_profile(load_profile(ROBOT))
    model = skeleton(f'{config.name} (untrained, seed {seed})', config, normalizer, device, dtype)
    model.text = HashedTextEncoder(config.transformer.text_dim, config.text.length)
    generator = torch.Generator().manual_seed(seed)
    initialize_transformer(model.transformer.to(dtype).to_empty(device=device), generator)
    model.transformer.requires_grad_(False)
    if vae:
        initialize_vae(model.vae.to_empty(device='cpu'), generator)
        model.vae.to(device).requires_grad_(False)
    return model


def check_counts(**counts: int) -> None:
    """Raise ConfigError unless all are at least 1."""
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f'{name} is {count}; it must be at least 1')
