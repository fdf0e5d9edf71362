"""Fresh models, checkpoints and their refusals."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from lingbot_va_core import checkpoint
from lingbot_va_core.checkpoint import WEIGHTS, CheckpointError, WorldModel, load_model, save_checkpoint
from lingbot_va_core.config import ConfigError
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.presets import preset
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.text import remember
from lingbot_va_core.weights import write_weights


@pytest.fixture
def folder(tiny: WorldModel, tmp_path: Path) -> Path:
    save_checkpoint(tiny, tmp_path / 'model')
    return tmp_path / 'model'


def weights(model: WorldModel) -> dict[str, torch.Tensor]:
    parts = {'transformer': model.transformer, 'vae': model.vae}
    return {f'{part}.{name}': t for part, module in parts.items() for name, t in module.state_dict().items()}


def test_a_seed_gives_the_same_weights_whatever_the_global_random_state(
    tiny: WorldModel, profile: RobotProfile
) -> None:
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    expected = torch.rand(3)
    torch.manual_seed(99)
    again, other = load_model(None, 'tiny', profile, seed=0), load_model(None, 'tiny', profile, seed=1)
    assert torch.equal(torch.rand(3), expected)
    torch.random.set_rng_state(state)
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(tiny).items())
    assert not torch.equal(tiny.transformer.proj_out.weight, other.transformer.proj_out.weight)
    assert tiny.name == 'tiny (untrained, seed 0)'


def test_a_checkpoint_is_read_back_as_it_was(tiny: WorldModel, folder: Path, profile: RobotProfile) -> None:
    model = load_model(folder, profile=profile)
    assert (model.name, model.config, model.normalizer) == (tiny.name, tiny.config, tiny.normalizer)
    assert all(torch.equal(tensor, weights(model)[name]) for name, tensor in weights(tiny).items())
    assert sorted(path.name for path in folder.parent.iterdir()) == ['model']


@pytest.mark.parametrize(('part', 'other'), [('vae', 'transformer'), ('transformer', 'vae')])
def test_a_part_is_loaded_without_reading_the_other(
    tiny: WorldModel, folder: Path, profile: RobotProfile, part: str, other: str
) -> None:
    (folder / f'{other}.safetensors').write_bytes(b'not read')
    fresh = load_model(None, 'tiny', profile, seed=0, parts=(part,))
    for model in (load_model(folder, profile=profile, parts=(part,)), fresh):
        loaded = getattr(model, part).state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in getattr(tiny, part).state_dict().items())
        assert all(tensor.is_meta for tensor in getattr(model, other).state_dict().values())
        assert (model.config, model.dtype) == (tiny.config, torch.float32)


def test_of_a_part_only_its_weights_are_downloaded() -> None:
    stem, shard = 'diffusion_pytorch_model', '00001-of-00002.safetensors'
    transformer = [
        'transformer.safetensors', f'transformer-{shard}', f'transformer/{stem}-{shard}', 'model.safetensors'
    ]  # fmt: skip
    vae = ['vae.safetensors', f'vae/{stem}.safetensors']
    for part, others in (('transformer', vae), ('vae', transformer)):
        kept = filter_repo_objects([*transformer, *vae, 'vae/config.json'], ignore_patterns=list(WEIGHTS[part]))
        assert list(kept) == [*others, 'vae/config.json']


def test_half_precision_is_for_the_transformer_only(folder: Path) -> None:
    model = load_model(folder, dtype=torch.bfloat16)
    assert model.transformer.proj_out.weight.dtype == torch.bfloat16
    assert model.vae.latent_mean.dtype == torch.float32


def test_saving_replaces_an_older_checkpoint(tiny: WorldModel, folder: Path) -> None:
    save_checkpoint(replace(tiny, name='newer'), folder)
    assert load_model(folder).name == 'newer'
    assert sorted(path.name for path in folder.iterdir()) == [
        'config.json',
        'transformer.safetensors',
        'vae.safetensors',
    ]


def test_a_failed_save_keeps_the_older_checkpoint(
    tiny: WorldModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError('no space left on device')

    monkeypatch.setattr('lingbot_va_core.weights.save_file', full)
    with pytest.raises(CheckpointError, match='cannot be written: no space left'):
        save_checkpoint(replace(tiny, name='newer'), folder)
    assert load_model(folder).name == tiny.name
    assert [path.name for path in folder.parent.iterdir()] == ['model']


def test_saving_never_replaces_something_else(tiny: WorldModel, tmp_path: Path) -> None:
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'cat.jpg').write_bytes(b'')
    with pytest.raises(CheckpointError, match='photos exists and is not a checkpoint'):
        save_checkpoint(tiny, tmp_path / 'photos')
    assert (tmp_path / 'photos' / 'cat.jpg').exists()


def test_saving_never_loses_what_lies_in_an_older_checkpoint(tiny: WorldModel, folder: Path) -> None:
    for name in ('tokenizer.json', 'notes.txt'):
        (folder / name).write_text('{}')
    with pytest.raises(CheckpointError, match=r'also has notes\.txt, tokenizer\.json, which would be lost'):
        save_checkpoint(tiny, folder)
    assert (folder / 'notes.txt').exists()
    assert load_model(folder).name == tiny.name


def test_large_weights_are_read_back_from_their_shards(
    tiny: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, 'write_weights', lambda *args: write_weights(*args, 4_000_000))
    save_checkpoint(tiny, tmp_path / 'model')
    assert len(list((tmp_path / 'model').glob('transformer-*-of-*.safetensors'))) > 2
    model = load_model(tmp_path / 'model')
    assert all(torch.equal(tensor, weights(model)[name]) for name, tensor in weights(tiny).items())


def test_embeddings_of_known_instructions_travel_with_a_checkpoint(tiny: WorldModel, tmp_path: Path) -> None:
    instructions = ['lift the cube', "café: d'accord"]
    save_checkpoint(replace(tiny, text=remember(tiny.text, instructions)), tmp_path / 'model')
    text = load_model(tmp_path / 'model').text
    assert set(text.table) == {*instructions, ''}
    for instruction in (*instructions, '', 'open the drawer'):
        assert torch.equal(text.encode(instruction), tiny.text.encode(instruction))


def test_settings_can_be_given_in_place_of_those_of_the_checkpoint(tiny: WorldModel, folder: Path) -> None:
    rollout = replace(tiny.config.rollout, chunk_frames=1)
    normalizer = ActionNormalizer((-1.0,) * 30, (1.0,) * 30, tiny.normalizer.mask)
    model = load_model(folder, rollout=rollout, normalizer=normalizer)
    assert (model.config.rollout, model.normalizer) == (rollout, normalizer)
    assert model.config.transformer == tiny.config.transformer


@pytest.mark.parametrize(('says', 'asked', 'holds'), [(None, True, True), (False, True, False), (True, None, True)])
def test_what_poses_are_relative_to_is_what_the_checkpoint_says(
    says: bool | None, asked: bool | None, holds: bool | None, tmp_path: Path, tiny: WorldModel
) -> None:
    trained = replace(tiny.config, rollout=replace(tiny.config.rollout, relative_poses=says))
    save_checkpoint(replace(tiny, config=trained), tmp_path / 'model')
    rollout = replace(tiny.config.rollout, relative_poses=asked)
    assert load_model(tmp_path / 'model', rollout=rollout, parts=('vae',)).config.rollout.relative_poses is holds


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_older_one(
    tiny: WorldModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if self.name == 'new':
            raise OSError('device is gone')
        return rename(self, target)

    monkeypatch.setattr(Path, 'rename', refuse_new)
    with pytest.raises(CheckpointError, match='cannot be written: device is gone'):
        save_checkpoint(replace(tiny, name='newer'), folder)
    assert load_model(folder).name == tiny.name


def test_a_layout_must_be_known(tiny: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="layout is 'zip'; choose one of own, released, lerobot"):
        save_checkpoint(tiny, tmp_path / 'model', layout='zip')


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, part: str, **changes: torch.Tensor | None) -> None:
    path = folder / f'{part}.safetensors'
    edited = {**load_file(path), **{name.replace('__', '.'): tensor for name, tensor in changes.items()}}
    save_file({name: tensor for name, tensor in edited.items() if tensor is not None}, path)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda f: f.rename(f.parent / 'moved'), 'no checkpoint folder at .*model; check the path'),
        (lambda f: (f / 'config.json').unlink(), 'config.json is missing, and so is transformer/config.json'),
        (lambda f: (f / 'config.json').write_text('{'), 'config.json cannot be read as JSON'),
        (lambda f: (f / 'config.json').write_text('[]'), 'must be a mapping with format, name'),
        (lambda f: edit_config(f, format='lingbot_va-9'), "format is 'lingbot_va-9'; this version reads lingbot_va-2"),
        (lambda f: edit_config(f, model={}), 'config: missing name, transformer, vae, rollout'),
        (lambda f: edit_config(f, normalization={}), 'normalization must be a mapping'),
        (lambda f: edit_config(f, files={'transformer': ['a.safetensors']}), 'files is .*it must list the files'),
        (lambda f: edit_config(f, files={'transformer': ['../a'], 'vae': ['b']}), 'files is .*it must list the files'),
        (lambda f: (f / 'vae.safetensors').unlink(), 'vae.safetensors is missing'),
        (lambda f: (f / 'vae.safetensors').write_bytes(b'\x00' * 20), 'cannot be read as safetensors'),
        (lambda f: edit_weights(f, 'transformer', proj_out__bias=None), 'misses proj_out.bias; its config.json'),
        (lambda f: edit_weights(f, 'vae', extra=torch.ones(1)), 'holds the unknown extra'),
        (
            lambda f: edit_weights(f, 'transformer', proj_out__bias=torch.ones(7)),
            r'proj_out.bias is \[7\], but its config.json asks for \[24\]',
        ),
    ],
)
def test_damage_is_named_with_path_and_remedy(folder: Path, damage: object, message: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(folder)
    assert str(folder) in str(error.value)
    assert '\n' not in str(error.value)


def test_a_robot_that_does_not_fit_is_refused(folder: Path, profile: RobotProfile) -> None:
    other = replace(profile, camera_layout='width', cameras=profile.cameras[:2])
    with pytest.raises(CheckpointError, match="does not fit robot 'aloha': camera layout tshape against width"):
        load_model(folder, profile=other)
    one_arm = replace(profile, arms=profile.arms[:1])
    with pytest.raises(CheckpointError, match='action channels'):
        load_model(folder, profile=one_arm)


def test_an_untrained_model_takes_the_cameras_of_its_robot(profile: RobotProfile) -> None:
    two = replace(profile, camera_layout='width', cameras=profile.cameras[:2])
    rollout = load_model(None, 'tiny', two).config.rollout
    assert (rollout.camera_layout, rollout.view_sizes) == ('width', [(64, 96)] * 2)
    assert load_model(None, 'tiny', profile).config == preset('tiny')


def test_an_untrained_model_needs_a_robot_and_a_known_preset(profile: RobotProfile) -> None:
    with pytest.raises(CheckpointError, match='needs a robot profile'):
        load_model(None, 'tiny')
    with pytest.raises(ConfigError, match="preset 'huge' is unknown"):
        load_model(None, 'huge', profile)
