"""Released configurations in our terms."""

from typing import Any

import pytest
from recorded_rollout import NORM_STAT, released_document

from lingbot_va_core.config import ConfigError, ExpertConfig, ModelConfig
from lingbot_va_core.released import released_model, rollout_config, transformer_config, vae_config

ROBOTWIN = {
    'patch_size': [1, 2, 2], 'attn_window': 72, 'frame_chunk_size': 2, 'env_type': 'robotwin_tshape', 'height': 256,
    'width': 320, 'action_dim': 30, 'action_per_frame': 16, 'obs_cam_keys': ['high', 'left', 'right'],
    'guidance_scale': 5, 'action_guidance_scale': 1, 'num_inference_steps': 25, 'video_exec_step': -1,
    'action_num_inference_steps': 50, 'snr_shift': 5.0, 'action_snr_shift': 1.0,
    'used_action_channel_ids': [*range(7), 28, *range(7, 14), 29], 'action_norm_method': 'quantiles',
}  # fmt: skip


def test_robotwin() -> None:
    rollout = rollout_config(ROBOTWIN)
    assert (rollout.camera_layout, rollout.cameras, rollout.canvas_size) == ('tshape', 3, (384, 320))
    assert rollout.view_sizes == [(256, 320), (128, 160), (128, 160)]
    assert (rollout.video_steps, rollout.action_steps, rollout.video_exec_step) == (25, 50, None)
    assert (rollout.video_guidance, rollout.action_guidance) == (5.0, 1.0)
    assert (rollout.video_shift, rollout.action_shift) == (5.0, 1.0)
    assert (rollout.chunk_frames, rollout.actions_per_latent, rollout.attn_window) == (2, 16, 72)


@pytest.mark.parametrize(
    ('settings', 'tokens'),
    [
        ({}, 120),  # robotwin
        ({'env_type': 'none', 'height': 224}, 210),  # franka
        ({'env_type': 'none', 'width': 256, 'obs_cam_keys': ['a', 'b']}, 128),  # demo
        ({'env_type': 'none', 'height': 128, 'width': 128, 'obs_cam_keys': ['a', 'b']}, 32),  # libero
    ],
)
def test_tokens_per_latent_frame_are_those_of_the_released_models(settings: dict[str, Any], tokens: int) -> None:
    document = released_document(**{**ROBOTWIN, **settings})
    config = released_model('released', **document).config
    assert config.video_tokens == tokens
    window = config.rollout.attn_window // 2
    assert config.cache_slots == window * 2 * (tokens + 16)


def test_a_whole_model_keeps_cameras_and_channels_in_their_order() -> None:
    released = released_model('small', **released_document(used_action_channel_ids=[28, 3, 14]))
    assert released.cameras == ('high', 'left', 'right')
    assert released.channels == (28, 3, 14)
    assert released.normalizer.used().nonzero().flatten().tolist() == [3, 14, 28]
    assert released.normalizer.q01 == tuple(NORM_STAT['q01'])
    assert released.config.transformer.video == ExpertConfig(width=24, ffn_width=32)
    assert released.config.transformer.action is None
    assert released.config.vae.stride == 16


def test_the_translation_survives_our_own_json() -> None:
    config = released_model('small', **released_document()).config
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_partial_denoising_and_guidance_below_one() -> None:
    rollout = rollout_config({**ROBOTWIN, 'video_exec_step': 7, 'guidance_scale': 0.0})
    assert rollout.video_exec_step == 7
    assert rollout.video_guidance == 1.0  # the released code guides above 1 only


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


DOCUMENT = released_document()


@pytest.mark.parametrize(
    ('translate', 'document', 'message'),
    [
        (transformer_config, [], r'transformer is \[\]; it must be a mapping'),
        (transformer_config, without(DOCUMENT['transformer'], 'eps', 'ffn_dim'), 'transformer: missing ffn_dim, eps$'),
        (
            transformer_config,
            {**without(DOCUMENT['transformer'], 'eps'), 'heads': 3, 'depth': 2},
            'transformer: missing eps; unknown heads, depth$',
        ),
        (transformer_config, {**DOCUMENT['transformer'], 'num_layers': '30'}, "num_layers is '30'; it must be of type"),
        (transformer_config, {**DOCUMENT['transformer'], 'num_layers': True}, 'num_layers is True'),
        (transformer_config, {**DOCUMENT['transformer'], 'out_channels': 16}, 'in_channels is 6 and out_channels 16'),
        (transformer_config, {**DOCUMENT['transformer'], 'action_dim': 14}, 'action_dim is 14; it must be 30'),
        (transformer_config, {**DOCUMENT['transformer'], 'cross_attn_norm': False}, 'cross_attn_norm is false'),
        (transformer_config, {**DOCUMENT['transformer'], 'attention_head_dim': 13}, 'head_dim is 13; it must be even'),
        (vae_config, {**DOCUMENT['vae'], 'is_residual': False}, 'is_residual is False; .* it must be True'),
        (vae_config, {**DOCUMENT['vae'], 'scale_factor_spatial': 8}, 'scale_factor_spatial is 8; .* it must be 16'),
        (vae_config, {**DOCUMENT['vae'], 'z_dim': 48}, 'latents_mean has 6 values; it must have 48'),
        (vae_config, {**DOCUMENT['vae'], 'latents_std': [1, 1, 1, 1, 1, 'x']}, r'latents_std\[5\] is'),
        (vae_config, {**DOCUMENT['vae'], 'temperal_downsample': [False, False, True]}, 'temporal_downsample is'),
        (rollout_config, {**ROBOTWIN, 'video_exec_step': 26}, 'video_exec_step is 26; it must be from 1 to'),
        (rollout_config, {**ROBOTWIN, 'video_exec_step': 0}, 'video_exec_step is 0'),
        (rollout_config, {**ROBOTWIN, 'obs_cam_keys': ['a', 'b']}, 'cameras is 2; camera_layout tshape takes 3'),
        (rollout_config, {**ROBOTWIN, 'action_norm_method': 'meanstd'}, "action_norm_method is 'meanstd'"),
    ],
)
def test_what_cannot_be_translated_is_named(translate: Any, document: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate(document)


@pytest.mark.parametrize(
    ('part', 'value', 'message'),
    [
        ('norm_stat', {'q01': [0.0] * 30}, 'norm_stat: missing q99'),
        ('norm_stat', {'q01': [0.0] * 7, 'q99': [1.0] * 7}, 'q01 has 7 values; it must have 30'),
        ('rollout', {**DOCUMENT['rollout'], 'used_action_channel_ids': [1, 30]}, r'used_action_channel_ids is \[1, 30'),
        ('rollout', {**DOCUMENT['rollout'], 'used_action_channel_ids': [1, 1]}, r'used_action_channel_ids is \[1, 1'),
        ('rollout', {**DOCUMENT['rollout'], 'patch_size': [1, 1, 1]}, 'patch_size is .1, 1, 1., but that of the'),
        ('rollout', {**DOCUMENT['rollout'], 'height': 72}, '72x32 pixels does not divide into latents of 16'),
        ('rollout', {**DOCUMENT['rollout'], 'height': 48}, '48x96 pixels, does not divide into tokens of 32x32'),
    ],
)
def test_parts_that_contradict_each_other_are_named(part: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        released_model('small', **{**DOCUMENT, part: value})
