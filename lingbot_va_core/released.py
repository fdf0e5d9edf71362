"""The released configuration, translated: transformer/config.json, vae/config.json, rollout settings, norm_stat."""

from dataclasses import dataclass
from typing import Any

from lingbot_va_core.config import (
    ConfigError,
    ExpertConfig,
    ModelConfig,
    RolloutConfig,
    TransformerConfig,
    VAEConfig,
    WanVAEConfig,
)
from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.robot import ACTION_DIM

# Released name: type. Lists have one type for all items.
TRANSFORMER_FIELDS = {
    'patch_size': [int], 'num_attention_heads': int, 'attention_head_dim': int, 'in_channels': int,
    'out_channels': int, 'action_dim': int, 'text_dim': int, 'freq_dim': int, 'ffn_dim': int, 'num_layers': int,
    'cross_attn_norm': bool, 'eps': float,
}  # fmt: skip
TRANSFORMER_IGNORED = {'rope_max_seq_len', 'pos_embed_seq_len', 'attn_mode'}  # nothing depends on them
VAE_FIELDS = {
    'base_dim': int, 'decoder_base_dim': int, 'z_dim': int, 'dim_mult': [int], 'num_res_blocks': int,
    'temperal_downsample': [bool], 'is_residual': bool, 'in_channels': int, 'out_channels': int, 'patch_size': int,
    'scale_factor_spatial': int, 'scale_factor_temporal': int, 'latents_mean': [float], 'latents_std': [float],
}  # fmt: skip
VAE_IGNORED = {'attn_scales', 'dropout', 'clip_output'}  # without effect on the residual VAE at inference
ROLLOUT_FIELDS = {
    'patch_size': [int], 'attn_window': int, 'frame_chunk_size': int, 'env_type': str, 'height': int, 'width': int,
    'action_dim': int, 'action_per_frame': int, 'obs_cam_keys': [str], 'guidance_scale': float,
    'action_guidance_scale': float, 'num_inference_steps': int, 'video_exec_step': int,
    'action_num_inference_steps': int, 'snr_shift': float, 'action_snr_shift': float, 'used_action_channel_ids': [int],
    'action_norm_method': str,
}  # fmt: skip
ROLLOUT_IGNORED = {
    'inverse_used_action_channel_ids', 'wan22_pretrained_model_name_or_path', 'param_dtype', 'enable_offload',
    'infer_mode', 'host', 'port', 'save_root',
}  # fmt: skip
TSHAPE = 'robotwin_tshape'  # the one env_type that is not cameras side by side
FULL = -1  # video_exec_step


@dataclass(frozen=True)
class ReleasedModel:
    """What a released configuration says.

    Attributes:
        cameras: names of the cameras, in the order of the canvas; in tshape the head camera first.
        channels: used channels of the universal action, in the order of the released action arrays.
    """

    config: ModelConfig
    normalizer: ActionNormalizer
    cameras: tuple[str, ...]
    channels: tuple[int, ...]


def released_model(name: str, transformer: object, vae: object, rollout: object, norm_stat: object) -> ReleasedModel:
    """Translate a whole model.

    Args:
        name: for the configuration.
        transformer, vae: contents of transformer/config.json and vae/config.json.
        rollout: settings with the names of the released configurations.
        norm_stat: mapping with q01 and q99, 30 values each.

    Raises:
        ConfigError: fields are missing, unknown or of a wrong type (the message lists them), or values contradict each
            other or cannot be translated.
    """
    config = ModelConfig(name, transformer_config(transformer), vae_config(vae), rollout_config(rollout))
    patch_size, ours = tuple(rollout['patch_size']), config.transformer.patch_size
    _require(patch_size == ours, f'rollout: patch_size is {patch_size}, but that of the transformer is {ours}')
    channels = tuple(rollout['used_action_channel_ids'])
    return ReleasedModel(config, action_normalizer(norm_stat, channels), tuple(rollout['obs_cam_keys']), channels)


def transformer_config(document: object, where: str = 'transformer') -> TransformerConfig:
    """Translate transformer/config.json; `where` is its name in the messages of ConfigError."""
    fields = _fields(document, where, TRANSFORMER_FIELDS, TRANSFORMER_IGNORED)
    _require(fields['cross_attn_norm'], f'{where}: cross_attn_norm is false; only true is supported')
    channels, out_channels = fields['in_channels'], fields['out_channels']
    _require(
        channels == out_channels, f'{where}: in_channels is {channels} and out_channels {out_channels}; make them equal'
    )
    _require(
        fields['action_dim'] == ACTION_DIM, f'{where}: action_dim is {fields["action_dim"]}; it must be {ACTION_DIM}'
    )
    heads, head_dim = fields['num_attention_heads'], fields['attention_head_dim']
    return _build(
        where,
        lambda: TransformerConfig(
            num_layers=fields['num_layers'],
            num_heads=heads,
            head_dim=head_dim,
            video=ExpertConfig(heads * head_dim, fields['ffn_dim']),
            action=None,
            latent_channels=channels,
            patch_size=tuple(fields['patch_size']),
            text_dim=fields['text_dim'],
            freq_dim=fields['freq_dim'],
            action_dim=fields['action_dim'],
            eps=fields['eps'],
        ),
    )


def vae_config(document: object, where: str = 'vae') -> WanVAEConfig:
    """Translate vae/config.json of a Wan2.2 VAE; `where` is its name in the messages of ConfigError."""
    fields = _fields(document, where, VAE_FIELDS, VAE_IGNORED)
    config = _build(
        where,
        lambda: WanVAEConfig(
            kind='wan',
            base_dim=fields['base_dim'],
            decoder_base_dim=fields['decoder_base_dim'],
            latent_channels=fields['z_dim'],
            dim_mult=tuple(fields['dim_mult']),
            num_res_blocks=fields['num_res_blocks'],
            temporal_downsample=tuple(fields['temperal_downsample']),
            patch_size=fields['patch_size'],
            latents_mean=tuple(fields['latents_mean']),
            latents_std=tuple(fields['latents_std']),
        ),
    )
    folded = 3 * config.patch_size**2
    implied = {'is_residual': True, 'in_channels': folded, 'out_channels': folded,
               'scale_factor_spatial': config.stride, 'scale_factor_temporal': 4}  # fmt: skip
    for name, value in implied.items():
        _require(fields[name] == value, f'{where}: {name} is {fields[name]}; with the other fields it must be {value}')
    return config


def transformer_document(config: TransformerConfig) -> dict[str, Any]:
    """Undo `transformer_config`; raises ConfigError for an action expert, which no released layout holds."""
    _require(config.action is None, 'an action expert, for which the released layouts have no place')
    return {
        '_class_name': 'WanTransformer3DModel', 'patch_size': list(config.patch_size),
        'num_attention_heads': config.num_heads, 'attention_head_dim': config.head_dim,
        'in_channels': config.latent_channels, 'out_channels': config.latent_channels, 'action_dim': config.action_dim,
        'text_dim': config.text_dim, 'freq_dim': config.freq_dim, 'ffn_dim': config.video.ffn_width,
        'num_layers': config.num_layers, 'cross_attn_norm': True, 'eps': config.eps, 'rope_max_seq_len': 1024,
        'pos_embed_seq_len': None, 'attn_mode': 'torch',
    }  # fmt: skip


def vae_document(config: VAEConfig | WanVAEConfig) -> dict[str, Any]:
    """Undo `vae_config`; raises ConfigError for another VAE, which no released layout holds."""
    _require(isinstance(config, WanVAEConfig), 'not the Wan VAE, and the released layouts have no place for another')
    folded = 3 * config.patch_size**2
    return {
        '_class_name': 'AutoencoderKLWan', 'base_dim': config.base_dim, 'decoder_base_dim': config.decoder_base_dim,
        'z_dim': config.latent_channels, 'dim_mult': list(config.dim_mult), 'num_res_blocks': config.num_res_blocks,
        'temperal_downsample': list(config.temporal_downsample), 'is_residual': True, 'in_channels': folded,
        'out_channels': folded, 'patch_size': config.patch_size, 'scale_factor_spatial': config.stride,
        'scale_factor_temporal': 4, 'latents_mean': list(config.latents_mean),
        'latents_std': list(config.latents_std), 'attn_scales': [], 'dropout': 0.0,
    }  # fmt: skip


def rollout_config(document: object, where: str = 'rollout') -> RolloutConfig:
    """Translate rollout settings; `where` is their name in the messages of ConfigError."""
    fields = _fields(document, where, ROLLOUT_FIELDS, ROLLOUT_IGNORED)
    _require(
        fields['action_norm_method'] == 'quantiles',
        f"{where}: action_norm_method is '{fields['action_norm_method']}'; only 'quantiles' is supported",
    )
    _require(
        fields['action_dim'] == ACTION_DIM, f'{where}: action_dim is {fields["action_dim"]}; it must be {ACTION_DIM}'
    )
    exec_step = fields['video_exec_step']
    return _build(
        where,
        lambda: RolloutConfig(
            height=fields['height'],
            width=fields['width'],
            camera_layout='tshape' if fields['env_type'] == TSHAPE else 'width',
            cameras=len(fields['obs_cam_keys']),
            chunk_frames=fields['frame_chunk_size'],
            actions_per_latent=fields['action_per_frame'],
            video_steps=fields['num_inference_steps'],
            action_steps=fields['action_num_inference_steps'],
            attn_window=fields['attn_window'],
            video_guidance=max(fields['guidance_scale'], 1.0),  # the released code guides above 1 only
            action_guidance=max(fields['action_guidance_scale'], 1.0),
            video_shift=fields['snr_shift'],
            action_shift=fields['action_snr_shift'],
            video_exec_step=None if exec_step == FULL else exec_step,
        ),
    )


def action_normalizer(norm_stat: object, channels: tuple[int, ...], where: str = 'norm_stat') -> ActionNormalizer:
    """Translate the quantiles q01 and q99; `channels` are the used ones. Raises ConfigError."""
    fields = _fields(norm_stat, where, {'q01': [float], 'q99': [float]}, set())
    _require(
        len(set(channels)) == len(channels) and all(0 <= channel < ACTION_DIM for channel in channels),
        f'used_action_channel_ids is {list(channels)}; give different channels from 0 to {ACTION_DIM - 1}',
    )
    mask = tuple(channel in channels for channel in range(ACTION_DIM))
    return _build(where, lambda: ActionNormalizer(tuple(fields['q01']), tuple(fields['q99']), mask))


def _fields(document: object, where: str, types: dict[str, Any], ignored: set[str]) -> dict[str, Any]:
    """Check the fields of a mapping; names that begin with an underscore are the writing library's own."""
    _require(isinstance(document, dict), f'{where} is {document!r:.80}; it must be a mapping')
    missing = [name for name in types if name not in document]
    unknown = [str(n) for n in document if n not in types and n not in ignored and not str(n).startswith('_')]
    problems = [f'missing {", ".join(missing)}'] * bool(missing) + [f'unknown {", ".join(unknown)}'] * bool(unknown)
    _require(not problems, f'{where}: {"; ".join(problems)}')
    return {name: _value(document[name], kind, f'{where}: {name}') for name, kind in types.items()}


def _value(value: object, kind: Any, where: str) -> Any:
    """Check a value's type; integers pass as floats."""
    if isinstance(kind, list):
        _require(isinstance(value, list | tuple), f'{where} is {value!r:.80}; it must be a list')
        return [_value(item, kind[0], f'{where}[{i}]') for i, item in enumerate(value)]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    _require(fits, f'{where} is {value!r:.80}; it must be of type {kind.__name__}')
    return value


def _build(where: str, make: Any) -> Any:
    try:
        return make()
    except (ConfigError, NormalizationError) as error:
        raise ConfigError(f'{where}: {error}') from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
