"""Whole models: made fresh from a preset, read from a checkpoint folder or the Hub, written to a folder.

A checkpoint folder of our own holds `config.json` (configuration, action normalisation, what is known of its training
and the names of the other files), the weights of transformer and VAE as safetensors, in shards where they are large,
and, if there are any, the embeddings of known instructions; README.md is its model card. The layouts of the authors and
of LeRobot are read and written, too: `released_checkpoint`, `lerobot_checkpoint`.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lingbot_va_core.config import ConfigError, ModelConfig, RolloutConfig
from lingbot_va_core.hub import HubError, locate
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.lerobot_checkpoint import read_lerobot, write_lerobot
from lingbot_va_core.model_card import CARD, read_training, write_card
from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.presets import preset
from lingbot_va_core.released_checkpoint import read_released, write_released
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.text import KnownPrompts, TextError
from lingbot_va_core.weights import CheckpointError, load_weights, some, write_tensors, write_weights
from lingbot_va_core.world_model import PARTS, WorldModel, build_text_encoder, load_parts, skeleton

__all__ = [
    'CheckpointError',
    'WorldModel',
    'is_checkpoint',
    'load_model',
    'load_weights',
    'save_checkpoint',
    'with_vae',
]

FORMAT = 'lingbot_va-2'
WEIGHTS = {'transformer': ('transformer*.safetensors', 'model*.safetensors'), 'vae': ('vae*.safetensors',)}  # files
EMBEDDINGS = 'text_embeddings'
LAYOUTS = ('own', 'released', 'lerobot')
WRITTEN = ('config.json', CARD, '*.safetensors', 'policy_*processor.json', 'transformer', 'vae')  # names in any layout


def load_model(
    checkpoint: Path | str | None,
    preset_name: str = 'tiny',
    profile: RobotProfile | None = None,
    seed: int = 0,
    device: torch.device | str = 'cpu',
    dtype: torch.dtype | None = torch.float32,
    rollout: RolloutConfig | None = None,
    normalizer: ActionNormalizer | None = None,
    parts: Sequence[str] = PARTS,
) -> WorldModel:
    """Load a checkpoint, or make an untrained model where `checkpoint` is None.

    Args:
        checkpoint: folder or Hub id, in our layout, that of robbyant/lingbot-va-* or that of lerobot/lingbot_va_*.
        preset_name: configuration of an untrained model.
        profile: the robot; gives an untrained model its action range, cameras and rates, and is checked against others.
        seed: of an untrained model's weights.
        device: where transformer and VAE run.
        dtype: of the transformer; the VAE runs in float32. None: each weight of both as it is stored, to convert.
        rollout: how the model is run, in place of what the checkpoint says; but what a checkpoint of our own says of
            `relative_poses` stays.
        normalizer: action quantiles, in place of those of the checkpoint. The folders of robbyant have none.
        parts: 'transformer', 'vae' or both. The other one's weights are neither downloaded nor read; it is there on the
            meta device, without memory.

    Raises:
        CheckpointError: the folder, a file, a weight or a setting is missing or wrong, or does not fit the robot.
        ConfigError: unknown preset.
    """
    device = torch.device(device)
    if checkpoint is not None:
        model = _read(checkpoint, device, dtype, rollout, normalizer, profile, parts)
    elif profile is None:
        raise CheckpointError('an untrained model needs a robot profile for its action range; give a profile')
    else:
        normalizer = normalizer or ActionNormalizer.from_profile(profile)
        config = _for_robot(preset(preset_name), profile)
        model = _fresh(config, normalizer, seed, device, dtype or torch.float32, parts)
    model.dtype = model.transformer.proj_out.weight.dtype
    if profile is not None:
        _check_profile(model, profile)
    return model


def save_checkpoint(
    model: WorldModel, folder: Path | str, layout: str = 'own', cameras: Sequence[str] | None = None
) -> None:
    """Write a checkpoint folder whole or not at all; an older one of that name is replaced.

    Args:
        model: of any origin, so that loading and saving converts.
        folder: to be made.
        layout: 'own'; 'released': that of robbyant/lingbot-va-*, which has no place for rollout settings, action
            quantiles and embeddings of known instructions; 'lerobot': that of lerobot/lingbot_va_*, which has none for
            the last. The text encoder is not written.
        cameras: names of the images in LeRobot's layout, see `write_lerobot`.

    Raises:
        CheckpointError: the folder cannot be written, something that is not a checkpoint or has more in it, such as a
            text encoder, is in its place, or the model has parts that the layout cannot hold.
    """
    folder = Path(folder)
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout is '{layout}'; choose one of {', '.join(LAYOUTS)}")
    write = {'own': _write_own, 'released': write_released, 'lerobot': partial(write_lerobot, cameras=cameras)}[layout]
    _check_place(folder)
    try:
        _replace(folder, lambda fresh: write(model, fresh))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'{folder} cannot be written: {error}') from error


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is meant as a checkpoint of any layout: it has the file that is read first."""
    return any((folder / part / 'config.json').is_file() for part in ('', 'transformer'))


def with_vae(model: WorldModel, source: WorldModel) -> WorldModel:
    """Return an untrained model with the VAE of another one; its heads are zero, as where that VAE was trained.

    Of the runs behind the other one, it comes from those alone that trained the VAE.

    Raises:
        CheckpointError: the VAEs are of different sizes.
    """
    if model.config.vae != source.config.vae:
        raise CheckpointError(f"'{source.name}' has another kind or size of VAE than '{model.config.name}'")
    for head in (model.transformer.proj_out, model.transformer.action_proj_out):
        nn.init.zeros_(head.weight)
    training = tuple(run for run in source.training if run.get('what') == 'vae')
    return replace(model, vae=source.vae, training=training)


def _check_place(folder: Path) -> None:
    """Refuse to replace what is no checkpoint of ours, or has something in it that would be lost."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_checkpoint(folder):
        raise CheckpointError(f'{folder} exists and is not a checkpoint; choose another folder')
    lost = [entry.name for entry in folder.iterdir() if not any(entry.match(name) for name in WRITTEN)]
    if lost:
        raise CheckpointError(f'{folder} also has {some(sorted(lost))}, which would be lost; choose another folder')


def _write_own(model: WorldModel, folder: Path) -> None:
    files = {}
    for part in PARTS:
        where = write_weights(getattr(model, part).state_dict(), folder, part)
        files[part] = sorted(set(where.values()))
    if isinstance(model.text, KnownPrompts):
        write_tensors(model.text.table, folder / f'{EMBEDDINGS}.safetensors')
        files[EMBEDDINGS] = [f'{EMBEDDINGS}.safetensors']
    document = {
        'format': FORMAT,
        'name': model.name,
        'model': model.config.to_dict(),
        'normalization': model.normalizer.to_dict(),
        'files': files,
        **({'training': model.training} if model.training else {}),
    }
    (folder / 'config.json').write_text(json.dumps(document, indent=1) + '\n')
    if model.training:
        write_card(folder)


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder beside `folder`, then put it in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}.') as scratch:
        fresh, old = Path(scratch) / 'new', Path(scratch) / 'old'
        fresh.mkdir()
        write(fresh)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _for_robot(config: ModelConfig, profile: RobotProfile) -> ModelConfig:
    """Return a preset with the cameras and the rates of a robot, since no training binds it to others yet."""
    rollout = replace(
        config.rollout,
        camera_layout=profile.camera_layout,
        cameras=len(profile.cameras),
        actions_per_latent=profile.clock.actions_per_latent,
    )
    return replace(config, rollout=rollout)


def _fresh(
    config: ModelConfig,
    normalizer: ActionNormalizer,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    parts: Sequence[str],
) -> WorldModel:
    model = skeleton(f'{config.name} (untrained, seed {seed})', config, normalizer, device, dtype)
    generator = torch.Generator().manual_seed(seed)
    model.transformer.to_empty(device='cpu')
    initialize_transformer(model.transformer, generator)
    if 'vae' in parts:
        initialize_vae(model.vae.to_empty(device='cpu'), generator)  # behind the transformer: a seed gives one model
        model.vae.to(device, torch.float32)
    model.transformer.to(device if 'transformer' in parts else 'meta', dtype)
    model.transformer.requires_grad_(False)
    model.vae.requires_grad_(False)
    return model


def _read(
    checkpoint: Path | str,
    device: torch.device,
    dtype: torch.dtype | None,
    rollout: RolloutConfig | None,
    normalizer: ActionNormalizer | None,
    profile: RobotProfile | None,
    parts: Sequence[str],
) -> WorldModel:
    unread = [pattern for part in PARTS if part not in parts for pattern in WEIGHTS[part]]
    try:
        folder = locate(
            checkpoint, include=('*.json', '*.safetensors'), exclude=('text_encoder/*', 'tokenizer/*', *unread)
        )
    except HubError as error:
        raise CheckpointError(str(error)) from error
    source = str(checkpoint if folder != Path(checkpoint) else folder.resolve())
    if (folder / 'transformer' / 'config.json').is_file():
        return read_released(folder, source, device, dtype, rollout, normalizer, profile, parts)
    path = folder / 'config.json'
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f'{path} is missing, and so is transformer/config.json; a checkpoint needs one of them'
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON: {error}') from error
    if isinstance(document, dict) and document.get('type') == 'lingbot_va':
        return read_lerobot(folder, document, device, dtype, rollout, normalizer, parts)
    return _read_own(path, document, device, dtype, rollout, normalizer, parts)


def _read_own(
    path: Path,
    document: Any,
    device: torch.device,
    dtype: torch.dtype | None,
    rollout: RolloutConfig | None,
    normalizer: ActionNormalizer | None,
    parts: Sequence[str],
) -> WorldModel:
    fields = ('format', 'name', 'model', 'normalization', 'files')
    if isinstance(document, dict) and document.get('format', FORMAT) != FORMAT:
        raise CheckpointError(f'{path}: format is {document["format"]!r}; this version reads {FORMAT}')
    if not isinstance(document, dict) or any(field not in document for field in fields):
        raise CheckpointError(f'{path} must be a mapping with {", ".join(fields)}; save the checkpoint again')
    files = _files(path, document['files'])
    try:
        config = ModelConfig.from_dict(document['model'])
        if rollout is not None:
            if config.rollout.relative_poses is not None:  # of the data that it was trained on, however it is run
                rollout = replace(rollout, relative_poses=config.rollout.relative_poses)
            config = ModelConfig(config.name, config.transformer, config.vae, rollout, config.text)
        normalizer = normalizer or ActionNormalizer.from_dict(document['normalization'])
    except (ConfigError, NormalizationError) as error:
        raise CheckpointError(f'{path}: {error}') from error
    model = skeleton(str(document['name']), config, normalizer, device, dtype)
    model.training = read_training(document)
    load_parts(model, files, device, dtype, parts)
    for file in files.get(EMBEDDINGS, ()):
        try:
            model.text = build_text_encoder(config, load_file(file))
        except (SafetensorError, OSError, TextError) as error:
            raise CheckpointError(f'{file} cannot be read ({error}); copy the checkpoint again') from error
    return model


def _files(path: Path, document: object) -> dict[str, list[Path]]:
    """Read which files belong to which part."""
    parts = (*PARTS, EMBEDDINGS)
    fits = isinstance(document, dict) and set(PARTS) <= set(document) <= set(parts)
    if not fits or not all(
        isinstance(names, list) and names and all(isinstance(n, str) and Path(n).name == n for n in names)
        for names in document.values()
    ):
        raise CheckpointError(
            f'{path}: files is {document!r:.80}; it must list the files in this folder of {", ".join(PARTS)}'
        )
    return {part: [path.parent / name for name in names] for part, names in document.items()}


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
