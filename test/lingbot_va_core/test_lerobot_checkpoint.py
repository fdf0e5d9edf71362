"""Checkpoint folders of LeRobot: read, written, converted, and refused with what is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingbot_va_core.checkpoint import CheckpointError, WorldModel, load_model, save_checkpoint
from lingbot_va_core.config import TextConfig

CHANNELS = [14, 15, 16, 17, 18, 19, 28, 21, 22, 23, 24, 25, 26, 29]


@pytest.fixture
def lerobot(small: WorldModel, released: Path, tmp_path: Path) -> Path:
    """A folder in LeRobot's layout that names `released` for the VAE."""
    folder = tmp_path / 'lerobot'
    folder.mkdir()
    transformer = json.loads((released / 'transformer' / 'config.json').read_text())
    settings = {
        'type': 'lingbot_va', 'wan_pretrained_path': str(released), 'dtype': 'bfloat16', 'n_obs_steps': 1,
        'obs_cam_keys': [f'observation.images.{name}' for name in ('head', 'left', 'right')],
        'camera_layout': 'robotwin_tshape', 'height': 64, 'width': 64, 'action_per_frame': 16, 'frame_chunk_size': 2,
        'attn_window': 8, 'num_inference_steps': 2, 'video_exec_step': -1, 'action_num_inference_steps': 2,
        'guidance_scale': 5.0, 'action_guidance_scale': 1.0, 'snr_shift': 5.0, 'action_snr_shift': 1.0,
        'max_sequence_length': 512, 'used_action_channel_ids': CHANNELS, 'optimizer_lr': 1e-5,
    }  # fmt: skip
    (folder / 'config.json').write_text(json.dumps({**transformer, **settings}))
    tensors = {f'transformer.{name}': t.bfloat16() for name, t in small.transformer.state_dict().items()}
    save_file(tensors, folder / 'model.safetensors')
    state = 'policy_postprocessor_step_0_unnormalizer_processor.safetensors'
    steps = [{'registry_name': 'unnormalizer_processor', 'config': {}, 'state_file': state}]
    (folder / 'policy_postprocessor.json').write_text(json.dumps({'name': 'policy_postprocessor', 'steps': steps}))
    values = {name: torch.tensor([getattr(small.normalizer, name)[c] for c in CHANNELS]) for name in ('q01', 'q99')}
    save_file({f'action.{name}': tensor for name, tensor in values.items()}, folder / state)
    return folder


def tensors(model: WorldModel) -> dict[str, torch.Tensor]:
    return {**model.transformer.state_dict(), **model.vae.state_dict()}


def test_a_lerobot_folder_is_read_with_its_settings_and_quantiles(small: WorldModel, lerobot: Path) -> None:
    model = load_model(lerobot)
    assert model.config.rollout == small.config.rollout
    assert model.config.transformer == small.config.transformer
    assert model.normalizer.mask == small.normalizer.mask
    for name in ('q01', 'q99'):
        assert getattr(model.normalizer, name) == pytest.approx(getattr(small.normalizer, name))
    weight = small.transformer.proj_out.weight
    assert torch.equal(model.transformer.proj_out.weight, weight.bfloat16().float())


def test_the_vae_of_a_lerobot_folder_is_loaded_without_reading_the_transformer(
    small: WorldModel, lerobot: Path
) -> None:
    (lerobot / 'model.safetensors').unlink()
    vae = load_model(lerobot, parts=('vae',)).vae.state_dict()
    assert all(torch.equal(tensor, vae[name]) for name, tensor in small.vae.state_dict().items())


def test_lerobot_to_own_to_released_keeps_every_weight(lerobot: Path, tmp_path: Path) -> None:
    first = load_model(lerobot)
    save_checkpoint(first, tmp_path / 'own')
    own = load_model(tmp_path / 'own')
    save_checkpoint(own, tmp_path / 'again', layout='released')
    last = load_model(tmp_path / 'again', normalizer=own.normalizer, rollout=own.config.rollout)
    assert (own.config, own.normalizer) == (first.config, first.normalizer)
    assert (last.config.transformer, last.config.vae) == (first.config.transformer, first.config.vae)
    assert all(torch.equal(tensor, tensors(last)[name]) for name, tensor in tensors(first).items())


@pytest.fixture
def portable(small: WorldModel) -> WorldModel:
    """A model whose text encoder has a source, which LeRobot's layout must name."""
    config = replace(small.config, text=TextConfig('umt5', 512, 'robbyant/lingbot-va-base'))
    return replace(small, config=config)


def test_what_is_written_is_read_back_to_the_bit_without_any_other_folder(portable: WorldModel, tmp_path: Path) -> None:
    save_checkpoint(portable, tmp_path / 'written', layout='lerobot')
    again = load_model(tmp_path / 'written', dtype=None)
    assert again.config == replace(portable.config, name='written')
    assert again.normalizer == portable.normalizer
    expected = tensors(portable)
    assert all(torch.equal(t, expected[name]) and t.dtype == expected[name].dtype for name, t in tensors(again).items())
    assert tensors(again).keys() == expected.keys()


def test_settings_with_a_place_in_the_layout_are_kept(portable: WorldModel, tmp_path: Path) -> None:
    rollout = replace(
        portable.config.rollout, camera_layout='width', cameras=2, video_exec_step=1, action_shift=0.05, attn_window=6
    )
    model = replace(portable, config=replace(portable.config, rollout=rollout))
    save_checkpoint(model, tmp_path / 'written', layout='lerobot')
    assert load_model(tmp_path / 'written').config.rollout == rollout


def test_the_written_files_are_those_that_lerobot_reads(portable: WorldModel, tmp_path: Path) -> None:
    folder = tmp_path / 'written'
    save_checkpoint(portable, folder, layout='lerobot')
    config = json.loads((folder / 'config.json').read_text())
    images = [f'observation.images.{name}' for name in ('cam_high', 'cam_left_wrist', 'cam_right_wrist')]
    assert (config['type'], config['dtype'], config['camera_layout']) == ('lingbot_va', 'float32', 'robotwin_tshape')
    assert config['obs_cam_keys'] == images == list(config['input_features'])
    assert config['used_action_channel_ids'] == CHANNELS  # the order of the action vectors, not of the 30 channels
    assert config['output_features'] == {'action': {'type': 'ACTION', 'shape': [14]}}
    assert config['wan_pretrained_path'] == 'robbyant/lingbot-va-base'
    names = load_file(folder / 'model.safetensors').keys()
    assert names == {f'transformer.{name}' for name in portable.transformer.state_dict()}
    for pipeline, registered in (('preprocessor', 'normalizer'), ('postprocessor', 'unnormalizer')):
        document = json.loads((folder / f'policy_{pipeline}.json').read_text())
        (step,) = [s for s in document['steps'] if s['registry_name'] == f'{registered}_processor']
        state = load_file(folder / step['state_file'])
        assert step['config']['norm_map']['ACTION'] == 'QUANTILES'
        assert state['action.q99'].tolist() == [portable.normalizer.q99[channel] for channel in CHANNELS]


def test_cameras_can_be_named(portable: WorldModel, tmp_path: Path) -> None:
    names = ['observation.images.head', 'observation.images.a', 'observation.images.b']
    save_checkpoint(portable, tmp_path / 'written', layout='lerobot', cameras=names)
    assert json.loads((tmp_path / 'written' / 'config.json').read_text())['obs_cam_keys'] == names
    with pytest.raises(CheckpointError, match='there are 2 names of cameras; the model has 3 cameras'):
        save_checkpoint(portable, tmp_path / 'written', layout='lerobot', cameras=names[:2])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'video_s': 0.5}, 'has video_s, for which'),
        ({'fdm_s': 1.0}, 'has fdm_steps or fdm_s, for which'),
        ({'cache_eviction': 'frames'}, "has cache_eviction 'frames', for which"),
    ],
)
def test_settings_without_a_place_are_refused(
    portable: WorldModel, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    rollout = replace(portable.config.rollout, **settings)
    model = replace(portable, config=replace(portable.config, rollout=rollout))
    with pytest.raises(CheckpointError, match=f"{message}.*use layout 'own'"):
        save_checkpoint(model, tmp_path / 'written', layout='lerobot')
    assert list(tmp_path.iterdir()) == []


def test_parts_without_a_place_are_refused(small: WorldModel, tiny: WorldModel, tmp_path: Path) -> None:
    for model, message in ((tiny, 'an action expert'), (small, 'no source of its text encoder')):
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(model, tmp_path / 'written', layout='lerobot')
    assert list(tmp_path.iterdir()) == []


def edit(path: Path, **changes: object) -> None:
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda f: edit(f / 'config.json', used_action_channel_ids=[14, 15]), 'must hold action.q01 and action.q99'),
        (lambda f: edit(f / 'config.json', used_action_channel_ids=[14] * 14), 'channels are .*give different ones'),
        (lambda f: edit(f / 'config.json', guidance_scale=None), 'config.json: missing guidance_scale'),
        (lambda f: edit(f / 'config.json', wan_pretrained_path='/nowhere'), 'no checkpoint folder at /nowhere'),
        (lambda f: edit(f / 'policy_postprocessor.json', steps=[]), 'names no file of action quantiles'),
        (lambda f: (f / 'model.safetensors').unlink(), 'model.safetensors is missing'),
    ],
)
def test_damage_to_a_lerobot_folder_is_named(lerobot: Path, damage: object, message: str) -> None:
    damage(lerobot)
    with pytest.raises(CheckpointError, match=message):
        load_model(lerobot)
