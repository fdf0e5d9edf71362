"""Checkpoint folders in the layout of LeRobot, lerobot/lingbot_va_*.

One config.json with all settings, `model.safetensors` with the transformer alone, action quantiles as the state of the
processors that LeRobot runs before and after the policy, and the name of the folder or repository that holds the rest:
VAE, text encoder and tokenizer. That rest may also lie in the folder itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lingbot_va_core.config import ConfigError, ModelConfig, RolloutConfig, TextConfig
from lingbot_va_core.hub import HubError, locate
from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.quantiles import QUANTILES, spread_quantiles
from lingbot_va_core.released import FULL, TRANSFORMER_FIELDS, TSHAPE, rollout_config, transformer_config, vae_config
from lingbot_va_core.released_checkpoint import documents, read_json, shards, write_part
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.umt5 import LENGTH
from lingbot_va_core.weights import CheckpointError, write_tensors, write_weights
from lingbot_va_core.world_model import WorldModel, load_parts, skeleton

PREFIX = 'transformer.'
LAYOUTS = {'width': 'width_concat', 'tshape': 'robotwin_tshape'}
CAMERAS = {
    'width': ('image', 'image2', 'image3', 'image4', 'image5', 'image6', 'image7', 'image8'),
    'tshape': ('cam_high', 'cam_left_wrist', 'cam_right_wrist'),
}
ARM_ORDER = (*range(7), *range(14, 21), 28, *range(7, 14), *range(21, 28), 29)  # pose, joints, gripper of each arm
SAME_NAMES = (
    'patch_size', 'attn_window', 'frame_chunk_size', 'height', 'width', 'action_dim', 'action_per_frame',
    'obs_cam_keys', 'guidance_scale', 'action_guidance_scale', 'num_inference_steps', 'video_exec_step',
    'action_num_inference_steps', 'snr_shift', 'action_snr_shift', 'used_action_channel_ids',
)  # fmt: skip


def read_lerobot(
    folder: Path,
    document: dict[str, Any],
    device: torch.device,
    dtype: torch.dtype | None,
    rollout: RolloutConfig | None,
    normalizer: ActionNormalizer | None,
    parts: Sequence[str],
) -> WorldModel:
    """Read a folder of LeRobot's layout; `document` is its config.json, the rest as `load_model`.

    Raises:
        CheckpointError: see `load_model`.
    """
    where = str(folder / 'config.json')
    source = document.get('wan_pretrained_path')
    if not isinstance(source, str):
        raise CheckpointError(f'{where}: wan_pretrained_path is {source!r}; it must name where vae/ is')
    try:
        bundled = (folder / 'vae' / 'config.json').is_file()
        vae = (folder if bundled else locate(source, include=('vae/*',))) / 'vae'
    except HubError as error:
        raise CheckpointError(f'{where}: wan_pretrained_path: {error}') from error
    if (folder / 'text_encoder').is_dir():
        source = str(folder.resolve())
    channels = document.get('used_action_channel_ids')
    try:
        config = ModelConfig(
            name=folder.name,
            transformer=transformer_config({n: v for n, v in document.items() if n in TRANSFORMER_FIELDS}, where),
            vae=vae_config(read_json(vae / 'config.json'), str(vae / 'config.json')),
            rollout=rollout or rollout_config(_released_names(document), where),
            text=TextConfig('umt5', document.get('max_sequence_length', LENGTH), source),
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    normalizer = normalizer or _read_quantiles(folder, channels)
    model = skeleton(config.name, config, normalizer, device, dtype)
    files = {'transformer': [folder / 'model.safetensors'], 'vae': shards(vae)}
    load_parts(model, files, device, dtype, parts, PREFIX)
    return model


def write_lerobot(model: WorldModel, folder: Path, cameras: Sequence[str] | None = None) -> None:
    """Write a folder of LeRobot's layout, with the VAE in it, into an empty folder.

    `wan_pretrained_path` names the source of the model's text encoder, as LeRobot takes that from there.

    Args:
        model: to be written. The order of LeRobot's action vectors is left arm, right arm, and in each the pose, the
            joints, the gripper: that of all released checkpoints.
        folder: receives the files.
        cameras: LeRobot's names of the images, in the order of the canvas; None: those that LeRobot's own conversion
            gives.

    Raises:
        CheckpointError: the model has parts or settings without a place in the layout, or another number of cameras.
        OSError, SafetensorError: a file cannot be written.
    """
    transformer, vae = documents(model)
    rollout, text = model.config.rollout, model.config.text
    for problem, found in (
        ('video_s', rollout.video_s is not None),
        ('fdm_steps or fdm_s', (rollout.fdm_steps, rollout.fdm_s) != (None, None)),
        ("cache_eviction 'frames'", rollout.cache_eviction != 'released'),
        (f"text encoder '{text.kind}'", text.kind != 'umt5'),
        ('no source of its text encoder', text.source is None),
    ):
        if found:
            raise CheckpointError(
                f"model '{model.name}' has {problem}, for which LeRobot's layout has no place; use layout 'own'"
            )
    if cameras is None:
        cameras = [f'observation.images.{name}' for name in CAMERAS[rollout.camera_layout][: rollout.cameras]]
    if len(cameras) != rollout.cameras:
        raise CheckpointError(f'there are {len(cameras)} names of cameras; the model has {rollout.cameras} cameras')
    channels = [channel for channel in ARM_ORDER if model.normalizer.mask[channel]]
    images = {name: {'type': 'VISUAL', 'shape': [3, rollout.height, rollout.width]} for name in cameras}
    actions = {'action': {'type': 'ACTION', 'shape': [len(channels)]}}
    normalization = {'VISUAL': 'IDENTITY', 'STATE': 'IDENTITY', 'ACTION': 'QUANTILES'}
    document = {
        'type': 'lingbot_va', 'n_obs_steps': 1, 'input_features': images, 'output_features': actions, 'device': 'cpu',
        'normalization_mapping': normalization, 'wan_pretrained_path': text.source,
        'dtype': str(model.dtype).removeprefix('torch.'), 'max_sequence_length': text.length,
        **{name: transformer[name] for name in (*TRANSFORMER_FIELDS, 'rope_max_seq_len', 'attn_mode')},
        **_settings(rollout), 'obs_cam_keys': list(cameras), 'used_action_channel_ids': channels,
    }  # fmt: skip
    (folder / 'config.json').write_text(json.dumps(document, indent=2) + '\n')
    weights = {f'{PREFIX}{name}': tensor for name, tensor in model.transformer.state_dict().items()}
    write_weights(weights, folder, 'model', limit=sum(tensor.nbytes for tensor in weights.values()))
    write_part(vae, model.vae.state_dict(), folder / 'vae')
    # Values in double precision, which LeRobot rounds when it reads them.
    quantiles = {
        f'action.{name}': torch.tensor([getattr(model.normalizer, name)[c] for c in channels], dtype=torch.float64)
        for name in QUANTILES
    }
    statistics = {'eps': 1e-8, 'features': {**images, **actions}, 'norm_map': normalization}
    device = _step('device', {'device': 'cpu', 'float_dtype': None})
    rename, batch = _step('rename_observations', {'rename_map': {}}), _step('to_batch', {})
    for name, steps in (
        ('policy_preprocessor', [rename, batch, _step('normalizer', statistics), device]),
        ('policy_postprocessor', [_step('unnormalizer', {**statistics, 'features': actions}), device]),
    ):
        for position, step in enumerate(steps):
            if 'normalizer' in step['registry_name']:
                step['state_file'] = f'{name}_step_{position}_{step["registry_name"]}.safetensors'
                write_tensors(quantiles, folder / step['state_file'])
        (folder / f'{name}.json').write_text(json.dumps({'name': name, 'steps': steps}, indent=2) + '\n')


def _step(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {'registry_name': f'{name}_processor', 'config': config}


def _settings(rollout: RolloutConfig) -> dict[str, Any]:
    return {
        'camera_layout': LAYOUTS[rollout.camera_layout], 'height': rollout.height, 'width': rollout.width,
        'frame_chunk_size': rollout.chunk_frames, 'action_per_frame': rollout.actions_per_latent,
        'num_inference_steps': rollout.video_steps, 'action_num_inference_steps': rollout.action_steps,
        'attn_window': rollout.attn_window, 'guidance_scale': rollout.video_guidance,
        'action_guidance_scale': rollout.action_guidance, 'snr_shift': rollout.video_shift,
        'action_snr_shift': rollout.action_shift,
        'video_exec_step': FULL if rollout.video_exec_step is None else rollout.video_exec_step,
    }  # fmt: skip


def _released_names(document: dict[str, Any]) -> dict[str, Any]:
    """Translate LeRobot's settings where their names or values are not the released ones."""
    tshape = document.get('camera_layout') == LAYOUTS['tshape']
    return {
        **{name: document[name] for name in SAME_NAMES if name in document},
        'env_type': TSHAPE if tshape else 'none',
        'action_norm_method': 'quantiles',
    }


def _read_quantiles(folder: Path, channels: object) -> ActionNormalizer:
    """Find q01 and q99 of the used channels."""
    path = folder / 'policy_postprocessor.json'
    document = read_json(path)
    steps = document.get('steps', []) if isinstance(document, dict) else []
    names = [step.get('state_file') for step in steps if 'unnormalizer' in str(step.get('registry_name'))]
    if not names or not isinstance(names[0], str) or Path(names[0]).name != names[0]:
        raise CheckpointError(f'{path} names no file of action quantiles; give them')
    path = folder / names[0]
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{path} cannot be read as safetensors ({error})') from error
    values = [stored.get(f'action.{name}') for name in QUANTILES]
    known = isinstance(channels, list) and all(type(channel) is int for channel in channels)
    if not known or len(channels) > ACTION_DIM or any(v is None or v.shape != (len(channels),) for v in values):
        raise CheckpointError(
            f'{path} must hold action.q01 and action.q99 for each of used_action_channel_ids {channels!r:.80}; give '
            'other quantiles'
        )
    try:
        return spread_quantiles(*(value.tolist() for value in values), channels)
    except NormalizationError as error:
        raise CheckpointError(f'{path}: {error}') from error
