"""Checkpoint folders of the authors: read, written, converted, and refused with what is wrong."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingbot_va_core.checkpoint import CheckpointError, WorldModel, load_model, save_checkpoint
from lingbot_va_core.config import TextConfig
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.session import Session
from lingbot_va_core.text import TextError, remember


def tensors(model: WorldModel) -> dict[str, torch.Tensor]:
    return {**model.transformer.state_dict(), **model.vae.state_dict()}


def test_conversion_keeps_every_weight_in_its_own_type(
    small: WorldModel, normalizer: ActionNormalizer, tmp_path: Path
) -> None:
    mixed = replace(small, transformer=deepcopy(small.transformer).bfloat16(), dtype=torch.bfloat16)
    mixed.transformer.scale_shift_table.data = torch.randn(1, 2, 24)
    save_checkpoint(mixed, tmp_path / 'first', layout='released')
    first = load_model(tmp_path / 'first', dtype=None, normalizer=normalizer)
    assert first.dtype == torch.bfloat16
    save_checkpoint(first, tmp_path / 'own')
    save_checkpoint(load_model(tmp_path / 'own', dtype=None), tmp_path / 'second', layout='released')
    for part in ('transformer', 'vae'):
        file = Path(part) / 'diffusion_pytorch_model.safetensors'
        assert (tmp_path / 'second' / file).read_bytes() == (tmp_path / 'first' / file).read_bytes()
    expected = tensors(mixed)
    assert {name: t.dtype for name, t in tensors(first).items()} == {name: t.dtype for name, t in expected.items()}


def test_a_folder_with_a_text_encoder_is_never_replaced(small: WorldModel, released: Path) -> None:
    (released / 'text_encoder').mkdir()
    with pytest.raises(CheckpointError, match='released also has text_encoder, which would be lost; choose another'):
        save_checkpoint(small, released, layout='released')
    assert (released / 'vae' / 'config.json').is_file()


def test_a_released_folder_is_read_from_its_shards(
    small: WorldModel, released: Path, normalizer: ActionNormalizer, profile: RobotProfile
) -> None:
    assert len(list((released / 'transformer').glob('*.safetensors'))) > 2
    model = load_model(released, normalizer=normalizer, rollout=small.config.rollout, profile=profile)
    assert model.config == replace(small.config, name='released', text=TextConfig('umt5', 512, str(released)))
    assert all(torch.equal(tensor, tensors(model)[name]) for name, tensor in tensors(small).items())
    index = json.loads((released / 'transformer' / 'diffusion_pytorch_model.safetensors.index.json').read_text())
    assert {'patch_embedding.weight', 'patch_embedding.bias'} < set(index['weight_map'])
    assert len(index['weight_map']) == len(small.transformer.state_dict()) + 2


def test_the_vae_of_a_released_folder_is_loaded_without_reading_the_transformer(
    small: WorldModel, released: Path, normalizer: ActionNormalizer
) -> None:
    for path in (released / 'transformer').glob('*.safetensors'):
        path.unlink()
    vae = load_model(released, normalizer=normalizer, rollout=small.config.rollout, parts=('vae',)).vae.state_dict()
    assert all(torch.equal(tensor, vae[name]) for name, tensor in small.vae.state_dict().items())


def test_without_settings_a_released_folder_runs_with_the_cameras_and_rates_of_the_robot(
    released: Path, normalizer: ActionNormalizer, profile: RobotProfile
) -> None:
    rollout = load_model(released, normalizer=normalizer, profile=profile).config.rollout
    assert (rollout.camera_layout, rollout.cameras) == (profile.camera_layout, len(profile.cameras))
    assert (rollout.video_steps, rollout.action_steps, rollout.video_guidance) == (25, 50, 5.0)


def test_a_released_folder_needs_action_quantiles(released: Path) -> None:
    with pytest.raises(CheckpointError, match='holds no action quantiles; give them, or convert it: lingbot-va'):
        load_model(released)


def test_known_instructions_run_a_released_model_without_its_text_encoder(small: WorldModel, tmp_path: Path) -> None:
    class Encoder:
        length, dim = 512, 16

        def encode(self, instruction: str) -> torch.Tensor:
            rows = torch.zeros(self.length, self.dim)
            rows[: len(instruction) + 1] = 0.5
            return rows

    save_checkpoint(replace(small, text=remember(Encoder(), ['lift the cube'])), tmp_path / 'own')
    session = Session(load_model(tmp_path / 'own'))
    session.start('lift the cube')
    session.observe(0, torch.zeros(small.config.latent_shape))
    assert session.predict().actions.shape == (1, 16, 30)
    with pytest.raises(TextError, match=r"'dance' is none of the known instructions \('lift the cube'\)"):
        session.set_instruction('dance')


def edit(path: Path, **changes: object) -> None:
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))


def shard(folder: Path, number: int) -> Path:
    return sorted((folder / 'transformer').glob('*.safetensors'))[number]


def drop_tensors(folder: Path) -> None:
    kept = {name: t for name, t in load_file(shard(folder, 0)).items() if not name.startswith('blocks.0.attn1')}
    save_file({**kept, 'stranger': torch.ones(1)}, shard(folder, 0))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda f: shard(f, 1).unlink(), '00002-of-.* is missing; copy'),
        (lambda f: [shard(f, 1).unlink() for _ in range(2)], '00002-of-.*, .*00003-of-.* are missing'),
        (lambda f: truncate(shard(f, 1)), '00002-of-.*cannot be read as safetensors'),
        (drop_tensors, 'misses blocks.0.attn1.*and [0-9]+ more and holds the unknown stranger'),
        (lambda f: edit(f / 'transformer' / 'config.json', ffn_dim=48), r'ffn.net.0.proj.bias is \[40\].*\[48\]'),
        (lambda f: edit(f / 'transformer' / 'config.json', num_layers=None), 'transformer/config.json: missing'),
        (lambda f: edit(f / 'vae' / 'config.json', z_dim=16), 'vae/config.json'),
        (lambda f: (f / 'vae' / 'config.json').unlink(), 'vae/config.json is missing'),
        (
            lambda f: edit(
                f / 'transformer' / 'diffusion_pytorch_model.safetensors.index.json', weight_map={'a': '../b'}
            ),
            'weight_map must name a file of this folder',
        ),
    ],
)
def test_damage_to_a_released_folder_is_listed(
    released: Path, normalizer: ActionNormalizer, damage: object, message: str
) -> None:
    damage(released)
    with pytest.raises(CheckpointError, match=message) as error:
        load_model(released, normalizer=normalizer)
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 1500


def test_the_released_layout_refuses_what_it_cannot_hold(tiny: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has an action expert, for which.*no place; use layout 'own'"):
        save_checkpoint(tiny, tmp_path / 'model', layout='released')
    assert list(tmp_path.iterdir()) == []
