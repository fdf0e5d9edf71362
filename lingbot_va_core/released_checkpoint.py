"""Checkpoint folders in the layouts of the authors (robbyant/lingbot-va-*) and of LeRobot (lerobot/lingbot_va_*).

The authors': `transformer/` and `vae/` with config.json and safetensors, `text_encoder/` and `tokenizer/`. It says
nothing about cameras, steps and action quantiles. LeRobot's: one config.json that does, `model.safetensors` with the
transformer alone, action quantiles beside it, and the name of the folder or repository that holds the rest.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lingbot_va_core.config import ConfigError, ModelConfig, RolloutConfig, TextConfig, WanVAEConfig
from lingbot_va_core.hub import HubError, locate
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import preset
from lingbot_va_core.released import (
    TRANSFORMER_FIELDS,
    TSHAPE,
    action_normalizer,
    rollout_config,
    transformer_config,
    vae_config,
)
from lingbot_va_core.robot import ACTION_DIM, RobotProfile
from lingbot_va_core.umt5 import LENGTH
from lingbot_va_core.weights import CheckpointError, legacy_shapes, load_weights, write_weights
from lingbot_va_core.world_model import WorldModel, skeleton

STEM = 'diffusion_pytorch_model'
LEROBOT_PREFIX = 'transformer.'
LEROBOT_TSHAPE = 'robotwin_tshape'
ROLLOUT_PRESET = 'lingbot-va-shared-5b'


def read_released(
    folder: Path,
    source: str,
    device: torch.device,
    dtype: torch.dtype,
    rollout: RolloutConfig | None,
    normalizer: ActionNormalizer | None,
    profile: RobotProfile | None,
) -> WorldModel:
    """Read a folder of the authors' layout.

    Args:
        folder: holds transformer/ and vae/.
        source: folder or Hub id of the text encoder.
        device, dtype: see `load_model`.
        rollout: how the model is run; None: like the RoboTwin model, with the cameras and rates of `profile`.
        normalizer: action quantiles, which the layout has no place for.
        profile: the robot.

    Raises:
        CheckpointError: see `load_model`.
    """
    if normalizer is None:
        raise CheckpointError(
            f'{folder} has the released layout, which holds no action quantiles; load it from Python with a normalizer '
            'and save it as a checkpoint of our own, which holds them'
        )
    if rollout is None:
        rollout = preset(ROLLOUT_PRESET).rollout
        if profile is not None:
            cameras, actions = len(profile.cameras), profile.clock.actions_per_latent
            rollout = replace(
                rollout, camera_layout=profile.camera_layout, cameras=cameras, actions_per_latent=actions
            )
    transformer, vae = folder / 'transformer', folder / 'vae'
    try:
        config = ModelConfig(
            name=Path(source).name,
            transformer=transformer_config(_json(transformer / 'config.json'), str(transformer / 'config.json')),
            vae=vae_config(_json(vae / 'config.json'), str(vae / 'config.json')),
            rollout=rollout,
            text=TextConfig('umt5', LENGTH, source),
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    model = skeleton(config.name, config, normalizer, device, dtype)
    load_weights(model.transformer, shards(transformer), device, dtype)
    load_weights(model.vae, shards(vae), device, torch.float32)
    return model


def read_lerobot(
    folder: Path,
    document: dict[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    rollout: RolloutConfig | None,
    normalizer: ActionNormalizer | None,
) -> WorldModel:
    """Read a folder of LeRobot's layout; `document` is its config.json, the rest as `read_released`."""
    where = str(folder / 'config.json')
    source = document.get('wan_pretrained_path')
    if not isinstance(source, str):
        raise CheckpointError(f'{where}: wan_pretrained_path is {source!r}; it must name where vae/ is')
    try:
        bundled = (folder / 'vae' / 'config.json').is_file()
        frozen = folder if bundled else locate(source, include=('vae/*',))
    except HubError as error:
        raise CheckpointError(f'{where}: wan_pretrained_path: {error}') from error
    vae, source = frozen / 'vae', str(folder.resolve()) if bundled else source
    channels = document.get('used_action_channel_ids')
    try:
        config = ModelConfig(
            name=folder.name,
            transformer=transformer_config({n: v for n, v in document.items() if n in TRANSFORMER_FIELDS}, where),
            vae=vae_config(_json(vae / 'config.json'), str(vae / 'config.json')),
            rollout=rollout or rollout_config(_released_names(document), where),
            text=TextConfig('umt5', document.get('max_sequence_length', LENGTH), source),
        )
        if normalizer is None:
            normalizer = action_normalizer(_lerobot_quantiles(folder, channels), tuple(channels), where)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    model = skeleton(config.name, config, normalizer, device, dtype)
    load_weights(model.transformer, folder / 'model.safetensors', device, dtype, LEROBOT_PREFIX)
    load_weights(model.vae, shards(vae), device, torch.float32)
    return model


def write_released(model: WorldModel, folder: Path) -> None:
    """Write transformer/ and vae/ of the authors' layout into an empty folder.

    The two legacy tensors that no code uses are written as zeros, so that the files hold all released names.

    Raises:
        CheckpointError: the model has an action expert or another VAE.
        OSError, SafetensorError: a file cannot be written.
    """
    config, vae = model.config.transformer, model.config.vae
    if config.action is not None or not isinstance(vae, WanVAEConfig):
        raise CheckpointError(
            f"model '{model.name}' has an action expert or not the Wan VAE, for which the released layout has no "
            "place; use layout 'own'"
        )
    unused = {name: torch.zeros(shape, dtype=model.dtype) for name, shape in legacy_shapes(config).items()}
    transformer = {
        '_class_name': 'WanTransformer3DModel', 'patch_size': config.patch_size,
        'num_attention_heads': config.num_heads, 'attention_head_dim': config.head_dim,
        'in_channels': config.latent_channels, 'out_channels': config.latent_channels, 'action_dim': config.action_dim,
        'text_dim': config.text_dim, 'freq_dim': config.freq_dim, 'ffn_dim': config.video.ffn_width,
        'num_layers': config.num_layers, 'cross_attn_norm': True, 'eps': config.eps, 'rope_max_seq_len': 1024,
        'pos_embed_seq_len': None, 'attn_mode': 'torch',
    }  # fmt: skip
    folded = 3 * vae.patch_size**2
    video = {
        '_class_name': 'AutoencoderKLWan', 'base_dim': vae.base_dim, 'decoder_base_dim': vae.decoder_base_dim,
        'z_dim': vae.latent_channels, 'dim_mult': vae.dim_mult, 'num_res_blocks': vae.num_res_blocks,
        'temperal_downsample': vae.temporal_downsample, 'is_residual': True, 'in_channels': folded,
        'out_channels': folded, 'patch_size': vae.patch_size, 'scale_factor_spatial': vae.stride,
        'scale_factor_temporal': 4, 'latents_mean': vae.latents_mean, 'latents_std': vae.latents_std,
        'attn_scales': [], 'dropout': 0.0,
    }  # fmt: skip
    for part, document, weights in (
        ('transformer', transformer, {**model.transformer.state_dict(), **unused}),
        ('vae', video, model.vae.state_dict()),
    ):
        (folder / part).mkdir()
        (folder / part / 'config.json').write_text(json.dumps(document, indent=2) + '\n')
        where = write_weights(weights, folder / part, STEM)
        if len(set(where.values())) > 1:
            size = sum(tensor.nbytes for tensor in weights.values())
            index = {'metadata': {'total_size': size}, 'weight_map': where}
            (folder / part / f'{STEM}.safetensors.index.json').write_text(json.dumps(index, indent=2) + '\n')


def shards(folder: Path) -> list[Path]:
    """List the safetensors files of a diffusers folder, by its index where there is one.

    Raises:
        CheckpointError: the index is wrong.
    """
    path = folder / f'{STEM}.safetensors.index.json'
    if not path.is_file():
        return [folder / f'{STEM}.safetensors']
    index = _json(path)
    where = index.get('weight_map') if isinstance(index, dict) else None
    names = list(where.values()) if isinstance(where, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise CheckpointError(f'{path}: weight_map must name a file of this folder for each tensor')
    return [folder / name for name in sorted(set(names))]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f'{path} is missing; copy or download the checkpoint again') from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read as JSON: {error}') from error


def _released_names(document: dict[str, Any]) -> dict[str, Any]:
    """Translate LeRobot's settings where their names or values are not the released ones."""
    same = (
        'patch_size', 'attn_window', 'frame_chunk_size', 'height', 'width', 'action_dim', 'action_per_frame',
        'obs_cam_keys', 'guidance_scale', 'action_guidance_scale', 'num_inference_steps', 'video_exec_step',
        'action_num_inference_steps', 'snr_shift', 'action_snr_shift', 'used_action_channel_ids',
    )  # fmt: skip
    tshape = document.get('camera_layout') == LEROBOT_TSHAPE
    return {
        **{name: document[name] for name in same if name in document},
        'env_type': TSHAPE if tshape else 'none',
        'action_norm_method': 'quantiles',
    }


def _lerobot_quantiles(folder: Path, channels: object) -> dict[str, list[float]]:
    """Find q01 and q99 of the used channels, in their order, and spread them over all channels."""
    path = folder / 'policy_postprocessor.json'
    document = _json(path)
    steps = document.get('steps', []) if isinstance(document, dict) else []
    names = [step.get('state_file') for step in steps if 'unnormalizer' in str(step.get('registry_name'))]
    if not names or not isinstance(names[0], str) or Path(names[0]).name != names[0]:
        raise CheckpointError(f'{path} names no file of action quantiles; give load_model a normalizer')
    try:
        stored = load_file(folder / names[0])
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f'{folder / names[0]} cannot be read as safetensors ({error})') from error
    quantiles = {}
    for name in ('q01', 'q99'):
        values = stored.get(f'action.{name}')
        if values is None or not isinstance(channels, list) or values.shape != (len(channels),):
            raise CheckpointError(
                f'{folder / names[0]} must hold action.{name} for each of used_action_channel_ids {channels!r:.80}; '
                'give load_model a normalizer'
            )
        quantiles[name] = [0.0] * ACTION_DIM
        for channel, value in zip(channels, values.tolist(), strict=True):
            if isinstance(channel, int) and 0 <= channel < ACTION_DIM:  # others are refused by action_normalizer
                quantiles[name][channel] = value
    return quantiles
