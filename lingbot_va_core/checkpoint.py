"""Whole models: made fresh from a preset, read from a checkpoint folder, written to one.

A checkpoint folder holds `config.json` (configuration and action normalisation), `transformer.safetensors` and
`vae.safetensors`.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lingbot_va_core.config import ConfigError, ModelConfig, preset
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.text import HashedTextEncoder, TextEncoder
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.vae import VideoVAE, build_vae

FORMAT = 'lingbot_va-1'
PARTS = ('transformer', 'vae')
UNUSED = ('patch_embedding.weight', 'patch_embedding.bias')  # legacy weights of the released checkpoints


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, written or used with a robot."""


@dataclass
class WorldModel:
    """A model with everything that it needs to run.

    Attributes:
        name: for provenance, such as 'tiny (untrained, seed 0)'.
        device, dtype: of the transformer; the VAE runs in float32 on the same device.
    """

    name: str
    config: ModelConfig
    transformer: WorldTransformer
    vae: VideoVAE
    text: TextEncoder
    normalizer: ActionNormalizer
    device: torch.device
    dtype: torch.dtype


def load_model(
    checkpoint: Path | str | None,
    preset_name: str = 'tiny',
    profile: RobotProfile | None = None,
    seed: int = 0,
    device: torch.device | str = 'cpu',
    dtype: torch.dtype = torch.float32,
) -> WorldModel:
    """Load a checkpoint, or make an untrained model where `checkpoint` is None.

    Args:
        checkpoint: folder written by `save_checkpoint`.
        preset_name: configuration of an untrained model.
        profile: the robot; gives an untrained model its action range and is checked against the model.
        seed: of an untrained model's weights.
        device: where transformer and VAE run.
        dtype: of the transformer; the VAE runs in float32.

    Raises:
        CheckpointError: the folder, a file, a weight or a setting is missing or wrong, or does not fit the robot.
        ConfigError: unknown preset.
    """
    device = torch.device(device)
    if checkpoint is not None:
        model = _read(Path(checkpoint), device, dtype)
    elif profile is None:
        raise CheckpointError('an untrained model needs a robot profile for its action range; give a profile')
    else:
        model = _fresh(preset(preset_name), ActionNormalizer.from_profile(profile), seed, device, dtype)
    if profile is not None:
        _check_profile(model, profile)
    return model


def save_checkpoint(model: WorldModel, folder: Path | str) -> None:
    """Write a checkpoint folder whole or not at all; an older one of that name is replaced.

    Raises:
        CheckpointError: the folder cannot be written, or something that is not a checkpoint is in its place.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / 'config.json').is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f'{folder} exists and is not a checkpoint; choose another folder')
    document = {
        'format': FORMAT,
        'name': model.name,
        'model': model.config.to_dict(),
        'normalization': model.normalizer.to_dict(),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as scratch:
            fresh, old = Path(scratch) / 'new', Path(scratch) / 'old'
            fresh.mkdir()
            (fresh / 'config.json').write_text(json.dumps(document, indent=1) + '\n')
            for part in PARTS:
                weights = {key: tensor.contiguous().cpu() for key, tensor in getattr(model, part).state_dict().items()}
                save_file(weights, fresh / f'{part}.safetensors')
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(f'{folder} cannot be written: {error}') from error


def load_weights(module: nn.Module, path: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Give `module`, built on the meta device, the weights of a safetensors file.

    Raises:
        CheckpointError: the file cannot be read, or weights are missing, unknown or of another shape.
    """
    if not path.is_file():
        raise CheckpointError(f'{path} is missing; a checkpoint needs config.json and {" and ".join(_files())}')
    try:
        weights = load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{path} cannot be read as safetensors ({error}); copy or train it again') from error
    weights = {key: tensor.to(dtype) for key, tensor in weights.items() if key not in UNUSED}
    expected = module.state_dict()
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or unknown:
        parts = [f'misses {_some(missing)}'] * bool(missing) + [f'holds the unknown {_some(unknown)}'] * bool(unknown)
        raise CheckpointError(f'{path} {" and ".join(parts)}; its config.json belongs to another model')
    for key, tensor in weights.items():
        if tensor.shape != expected[key].shape:
            raise CheckpointError(
                f'{path}: {key} is {list(tensor.shape)}, but its config.json asks for {list(expected[key].shape)}'
            )
    module.load_state_dict(weights, assign=True)
    module.requires_grad_(False)


def _fresh(
    config: ModelConfig, normalizer: ActionNormalizer, seed: int, device: torch.device, dtype: torch.dtype
) -> WorldModel:
    model = _skeleton(f'{config.name} (untrained, seed {seed})', config, normalizer, device, dtype)
    generator = torch.Generator().manual_seed(seed)
    for part, initialize in (('transformer', initialize_transformer), ('vae', initialize_vae)):
        module = getattr(model, part).to_empty(device='cpu')
        initialize(module, generator)
        module.to(device, dtype if part == 'transformer' else torch.float32).requires_grad_(False)
    return model


def _read(folder: Path, device: torch.device, dtype: torch.dtype) -> WorldModel:
    if not folder.is_dir():
        raise CheckpointError(f'no checkpoint folder at {folder}; check the path, or run without one to try a preset')
    path = folder / 'config.json'
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f'{path} is missing; a checkpoint needs it beside {" and ".join(_files())}') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON: {error}') from error
    fields = ('format', 'name', 'model', 'normalization')
    if not isinstance(document, dict) or any(field not in document for field in fields):
        raise CheckpointError(f'{path} must be a mapping with {", ".join(fields)}; save the checkpoint again')
    if document['format'] != FORMAT:
        raise CheckpointError(f'{path}: format is {document["format"]!r}; this version reads {FORMAT}')
    try:
        config = ModelConfig.from_dict(document['model'])
        normalizer = ActionNormalizer.from_dict(document['normalization'])
    except (ConfigError, NormalizationError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    model = _skeleton(str(document['name']), config, normalizer, device, dtype)
    load_weights(model.transformer, folder / 'transformer.safetensors', device, dtype)
    load_weights(model.vae, folder / 'vae.safetensors', device, torch.float32)
    return model


def _skeleton(
    name: str, config: ModelConfig, normalizer: ActionNormalizer, device: torch.device, dtype: torch.dtype
) -> WorldModel:
    """Build the parts without memory for their weights."""
    with torch.device('meta'):
        transformer, vae = WorldTransformer(config.transformer), build_vae(config.vae)
    text = HashedTextEncoder(config.transformer.text_dim)
    return WorldModel(name, config, transformer.eval(), vae.eval(), text, normalizer, device, dtype)


def _check_profile(model: WorldModel, profile: RobotProfile) -> None:
    rollout = model.config.rollout
    facts = (
        ('camera layout', rollout.camera_layout, profile.camera_layout),
        ('number of cameras', rollout.cameras, len(profile.cameras)),
        ('actions per latent frame', rollout.actions_per_latent, profile.clock.actions_per_latent),
        ('action channels', model.normalizer.used().nonzero().flatten().tolist(), sorted(profile.channels.tolist())),
    )
    for what, ours, theirs in facts:
        if ours != theirs:
            raise CheckpointError(
                f"model '{model.name}' does not fit robot '{profile.name}': {what} {ours} against {theirs}; "
                'choose another checkpoint, preset or profile'
            )


def _files() -> list[str]:
    return [f'{part}.safetensors' for part in PARTS]


def _some(names: list[str]) -> str:
    return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
