"""Checkpoint folders in the layout of the authors, robbyant/lingbot-va-*.

`transformer/` and `vae/` with config.json and safetensors, `text_encoder/` and `tokenizer/`. The layout says nothing
about cameras, steps and action quantiles.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingbot_va_core.config import ConfigError, ModelConfig, RolloutConfig, TextConfig
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import preset
from lingbot_va_core.released import transformer_config, transformer_document, vae_config, vae_document
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.umt5 import LENGTH
from lingbot_va_core.weights import CheckpointError, legacy_shapes, write_weights
from lingbot_va_core.world_model import WorldModel, load_parts, skeleton

STEM = 'diffusion_pytorch_model'
ROLLOUT_PRESET = 'lingbot-va-shared-5b'


def read_released(
    folder: Path,
    source: str,
    device: torch.device,
    dtype: torch.dtype | None,
    rollout: RolloutConfig | None,
    normalizer: ActionNormalizer | None,
    profile: RobotProfile | None,
    parts: Sequence[str],
) -> WorldModel:
    """Read a folder of the authors' layout.

    Args:
        folder: holds transformer/ and vae/.
        source: folder or Hub id of the text encoder.
        device, dtype: see `load_model`.
        rollout: how the model is run; None: like the RoboTwin model, with the cameras and rates of `profile`.
        normalizer: action quantiles, which the layout has no place for.
        profile: the robot.
        parts: see `load_model`.

    Raises:
        CheckpointError: see `load_model`.
    """
    if normalizer is None:
        raise CheckpointError(
            f'{folder} has the released layout, which holds no action quantiles; give them, or convert it: lingbot-va '
            'checkpoint SOURCE --rollout NAME --quantiles FILE --out FOLDER'
        )
    if rollout is None:
        rollout = preset(ROLLOUT_PRESET).rollout
        if profile is not None:
            cameras, actions = len(profile.cameras), profile.clock.actions_per_latent
            rollout = replace(rollout, camera_layout=profile.camera_layout, cameras=cameras, actions_per_latent=actions)
    transformer, vae = folder / 'transformer', folder / 'vae'
    try:
        config = ModelConfig(
            name=Path(source).name,
            transformer=transformer_config(read_json(transformer / 'config.json'), str(transformer / 'config.json')),
            vae=vae_config(read_json(vae / 'config.json'), str(vae / 'config.json')),
            rollout=rollout,
            text=TextConfig('umt5', LENGTH, source),
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    model = skeleton(config.name, config, normalizer, device, dtype)
    files = {part: shards(folder / part) for part in parts}
    load_parts(model, files, device, dtype, parts)
    return model


def write_released(model: WorldModel, folder: Path) -> None:
    """Write transformer/ and vae/ of the authors' layout into an empty folder.

    The two legacy tensors that no code uses are written as zeros, so that the files hold all released names.

    Raises:
        CheckpointError: the model has an action expert or another VAE.
        OSError, SafetensorError: a file cannot be written.
    """
    transformer, vae = documents(model)
    shapes = legacy_shapes(model.config.transformer)
    unused = {name: torch.zeros(shape, dtype=model.dtype) for name, shape in shapes.items()}
    write_part(transformer, {**model.transformer.state_dict(), **unused}, folder / 'transformer')
    write_part(vae, model.vae.state_dict(), folder / 'vae')


def documents(model: WorldModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.json of transformer and VAE; raises CheckpointError where the model has parts without a place."""
    try:
        return transformer_document(model.config.transformer), vae_document(model.config.vae)
    except ConfigError as error:
        raise CheckpointError(f"model '{model.name}' has {error}; use layout 'own'") from error


def write_part(document: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> None:
    """Write config.json and weights of one part as diffusers does, with an index where they take several files."""
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps(document, indent=2) + '\n')
    where = write_weights(weights, folder, STEM)
    if len(set(where.values())) > 1:
        size = sum(tensor.nbytes for tensor in weights.values())
        index = {'metadata': {'total_size': size}, 'weight_map': where}
        (folder / f'{STEM}.safetensors.index.json').write_text(json.dumps(index, indent=2) + '\n')


def shards(folder: Path) -> list[Path]:
    """List the safetensors files of a diffusers folder, by its index where there is one.

    Raises:
        CheckpointError: the index is wrong.
    """
    path = folder / f'{STEM}.safetensors.index.json'
    if not path.is_file():
        return [folder / f'{STEM}.safetensors']
    index = read_json(path)
    where = index.get('weight_map') if isinstance(index, dict) else None
    names = list(where.values()) if isinstance(where, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f'{path}: weight_map must name a file of this folder for each tensor')
    return [folder / name for name in sorted(set(names))]


def read_json(path: Path) -> Any:
    """Read a file of a checkpoint; raises CheckpointError."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f'{path} is missing; copy or download the checkpoint again') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON: {error}') from error
