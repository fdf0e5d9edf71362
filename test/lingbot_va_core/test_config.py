"""Model configurations: JSON round trip, derived sizes and refusals."""

import json
from dataclasses import replace

import pytest

from lingbot_va_core.config import ConfigError, ExpertConfig, ModelConfig
from lingbot_va_core.presets import preset


def test_a_preset_survives_json() -> None:
    config = preset('tiny')
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_checkpoint_from_before_forward_dynamics_is_read() -> None:
    config = preset('lingbot-va-mot-5b')
    document = config.to_dict()
    assert document['rollout'].pop('fdm_steps') is document['rollout'].pop('fdm_s') is None
    assert ModelConfig.from_dict(document) == config
    document['rollout']['fdm_steps'] = 2
    assert ModelConfig.from_dict(document).rollout.fdm_steps == 2


def test_a_checkpoint_that_names_no_eviction_is_run_as_released() -> None:
    document = preset('tiny').to_dict()
    assert document['rollout'].pop('cache_eviction') == 'frames'
    assert ModelConfig.from_dict(document).rollout.cache_eviction == 'released'


def test_a_shared_expert_survives_json() -> None:
    config = preset('tiny')
    shared = replace(config, transformer=replace(config.transformer, action=None))
    assert ModelConfig.from_dict(json.loads(json.dumps(shared.to_dict()))) == shared


def test_sizes_of_the_tiny_preset() -> None:
    config = preset('tiny')
    assert config.rollout.canvas_size == (96, 96)
    assert config.rollout.view_sizes == [(64, 96), (32, 48), (32, 48)]
    assert config.latent_shape == (24, 6, 6)
    assert config.video_tokens == 36
    assert config.cache_slots == 3 * 2 * (36 + 16)


@pytest.mark.parametrize('name', ['lingbot-va-shared-5b', 'lingbot-va-mot-5b', 'lingbot-va-mot-4x512'])
def test_a_published_size_survives_json(name: str) -> None:
    config = preset(name)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_sizes_of_the_published_presets() -> None:
    shared, mot = preset('lingbot-va-shared-5b'), preset('lingbot-va-mot-5b')
    assert (shared.transformer.action, mot.transformer.action) == (None, ExpertConfig(768, 3584))
    assert shared.transformer.video == mot.transformer.video == ExpertConfig(3072, 14336)
    assert (shared.video_tokens, shared.latent_shape) == (120, (48, 24, 20))
    assert (mot.video_tokens, mot.latent_shape) == (192, (48, 16, 48))
    assert shared.cache_slots == 36 * 2 * 136


@pytest.mark.parametrize('name', ['lingbot-va-mot-0x256', 'lingbot-va-mot-2x200', 'lingbot-va-shared-2x99999'])
def test_a_size_between_must_be_buildable(name: str) -> None:
    with pytest.raises(ConfigError, match='give 1 to 256 layers and a multiple of 128'):
        preset(name)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'huge' is unknown; choose one of .*tiny"):
        preset('huge')


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (('transformer', 'video', 'width'), 190, 'video.width is 190; it must be num_heads . head_dim = 192'),
        (('transformer', 'action', 'width'), 97, 'action.width is 97; it must be a multiple of num_heads = 3'),
        (('transformer', 'patch_size'), [2, 1, 1], r'patch_size is \(2, 1, 1\)'),
        (('transformer', 'patch_size'), [1, 1], 'must be a list of 3'),
        (('transformer', 'num_layers'), '6', "config.transformer.num_layers is '6'; it must be of type int"),
        (('transformer', 'num_layers'), True, 'config.transformer.num_layers is True'),
        (('transformer', 'eps'), float('nan'), 'eps is nan'),
        (('transformer', 'latent_channels'), 48, 'latent_channels is 48 but vae.latent_channels is 24'),
        (('text', 'kind'), 'bert', "kind is 'bert'; choose one of hashed, minilm, umt5"),
        (('transformer', 'text_dim'), 64, 'text_dim is 64; text.kind minilm has 384'),
        (('vae', 'kind'), 'huge', "kind is 'huge'; choose"),
        (('vae', 'widths'), [96, 128, 161], 'widths is'),
        (('rollout', 'chunk_frames'), 0, 'chunk_frames is 0; it must be above 0'),
        (('rollout', 'camera_layout'), 'round', "camera_layout is 'round'; choose one of width, tshape"),
        (('rollout', 'cameras'), 2, 'cameras is 2; camera_layout tshape takes 3 to 3'),
        (('rollout', 'fdm_steps'), 0, 'fdm_steps is 0; it must be above 0'),
        (('rollout', 'fdm_s'), 1.5, 'fdm_s is 1.5; it must be from 0'),
        (('rollout', 'video_exec_step'), 9, 'video_exec_step is 9; it must be from 1 to video_steps = 4'),
        (('rollout', 'video_guidance'), 0.5, 'video_guidance is 0.5; it must be at least 1'),
        (('rollout', 'attn_window'), 1, 'attn_window is 1; it must be at least 2'),
        (('rollout', 'height'), 48, 'a camera view of 24x48 pixels does not divide into latents of 16x16'),
    ],
)
def test_a_wrong_value_is_named_with_the_remedy(path: tuple[str, ...], value: object, message: str) -> None:
    document = preset('tiny').to_dict()
    section = document
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(document)


def test_missing_and_unknown_fields_are_named() -> None:
    document = preset('tiny').to_dict()
    del document['rollout']['height']
    document['rollout']['heigth'] = 64
    with pytest.raises(ConfigError, match=r'config\.rollout: missing height; unknown heigth; the fields are'):
        ModelConfig.from_dict(document)
