"""Checkpoint folders of the authors and of LeRobot: read, written, converted, and refused with what is wrong."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lingbot_va_core import released_checkpoint, weights
from lingbot_va_core.checkpoint import CheckpointError, WorldModel, load_model, save_checkpoint
from lingbot_va_core.config import (
    ExpertConfig,
    ModelConfig,
    RolloutConfig,
    TextConfig,
    TransformerConfig,
    WanVAEConfig,
)
from lingbot_va_core.initialization import initialize_transformer, initialize_vae
from lingbot_va_core.normalization import ActionNormalizer
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.session import Session
from lingbot_va_core.text import TextError, remember
from lingbot_va_core.world_model import skeleton

CHANNELS = [14, 15, 16, 17, 18, 19, 28, 21, 22, 23, 24, 25, 26, 29]
CONFIG = ModelConfig(
    name='small',
    transformer=TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_dim=12,
        video=ExpertConfig(24, 40),
        action=None,
        latent_channels=48,
        patch_size=(1, 2, 2),
        text_dim=16,
        freq_dim=16,
    ),
    vae=WanVAEConfig('wan', 8, 4, 48, (1, 2, 4, 4), 1, (False, True, True), 2, (0.1,) * 48, (0.9,) * 48),
    rollout=RolloutConfig(64, 64, 'tshape', 3, 2, 16, 2, 2, 8, video_guidance=5.0),
    text=TextConfig('umt5', 512),
)


@pytest.fixture(scope='module')
def normalizer(profile: RobotProfile) -> ActionNormalizer:
    return ActionNormalizer.from_profile(profile)


@pytest.fixture(scope='module')
def small(normalizer: ActionNormalizer) -> WorldModel:
    """A model of the released kind, with random weights."""
    model = skeleton('small', CONFIG, normalizer, torch.device('cpu'), torch.float32)
    generator = torch.Generator().manual_seed(0)
    initialize_transformer(model.transformer.to_empty(device='cpu'), generator)
    initialize_vae(model.vae.to_empty(device='cpu'), generator)
    return model


@pytest.fixture
def released(small: WorldModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the authors' layout, the transformer in several shards."""
    monkeypatch.setattr(released_checkpoint, 'write_weights', lambda *args: weights.write_weights(*args, 40_000))
    save_checkpoint(small, tmp_path / 'released', layout='released')
    return tmp_path / 'released'


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


def test_a_released_folder_is_read_from_its_shards(
    small: WorldModel, released: Path, normalizer: ActionNormalizer, profile: RobotProfile
) -> None:
    assert len(list((released / 'transformer').glob('*.safetensors'))) > 2
    model = load_model(released, normalizer=normalizer, rollout=CONFIG.rollout, profile=profile)
    assert model.config == replace(CONFIG, name='released', text=TextConfig('umt5', 512, str(released)))
    assert all(torch.equal(tensor, tensors(model)[name]) for name, tensor in tensors(small).items())
    index = json.loads((released / 'transformer' / 'diffusion_pytorch_model.safetensors.index.json').read_text())
    assert {'patch_embedding.weight', 'patch_embedding.bias'} < set(index['weight_map'])
    assert len(index['weight_map']) == len(small.transformer.state_dict()) + 2


def test_without_settings_a_released_folder_runs_with_the_cameras_and_rates_of_the_robot(
    released: Path, normalizer: ActionNormalizer, profile: RobotProfile
) -> None:
    rollout = load_model(released, normalizer=normalizer, profile=profile).config.rollout
    assert (rollout.camera_layout, rollout.cameras) == (profile.camera_layout, len(profile.cameras))
    assert (rollout.video_steps, rollout.action_steps, rollout.video_guidance) == (25, 50, 5.0)


def test_a_released_folder_needs_action_quantiles(released: Path) -> None:
    with pytest.raises(CheckpointError, match='holds no action quantiles; load it from Python with a normalizer'):
        load_model(released)


def test_a_lerobot_folder_is_read_with_its_settings_and_quantiles(small: WorldModel, lerobot: Path) -> None:
    model = load_model(lerobot)
    assert model.config.rollout == CONFIG.rollout
    assert model.config.transformer == CONFIG.transformer
    assert model.normalizer.mask == small.normalizer.mask
    for name in ('q01', 'q99'):
        assert getattr(model.normalizer, name) == pytest.approx(getattr(small.normalizer, name))
    weight = small.transformer.proj_out.weight
    assert torch.equal(model.transformer.proj_out.weight, weight.bfloat16().float())


def test_lerobot_to_own_to_released_keeps_every_weight(lerobot: Path, tmp_path: Path) -> None:
    first = load_model(lerobot)
    save_checkpoint(first, tmp_path / 'own')
    own = load_model(tmp_path / 'own')
    save_checkpoint(own, tmp_path / 'again', layout='released')
    last = load_model(tmp_path / 'again', normalizer=own.normalizer, rollout=own.config.rollout)
    assert (own.config, own.normalizer) == (first.config, first.normalizer)
    assert (last.config.transformer, last.config.vae) == (first.config.transformer, first.config.vae)
    assert all(torch.equal(tensor, tensors(last)[name]) for name, tensor in tensors(first).items())


def test_known_instructions_run_a_released_model_without_its_text_encoder(
    small: WorldModel, tmp_path: Path
) -> None:
    class Encoder:
        length, dim = 512, 16

        def encode(self, instruction: str) -> torch.Tensor:
            rows = torch.zeros(self.length, self.dim)
            rows[: len(instruction) + 1] = 0.5
            return rows

    save_checkpoint(replace(small, text=remember(Encoder(), ['lift the cube'])), tmp_path / 'own')
    session = Session(load_model(tmp_path / 'own'))
    session.start('lift the cube')
    session.observe(0, torch.zeros(CONFIG.latent_shape))
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


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda f: edit(f / 'config.json', used_action_channel_ids=[14, 15]), 'must hold action.q01 for each of'),
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


def test_the_released_layout_refuses_what_it_cannot_hold(tiny: WorldModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has an action expert or not the Wan VAE.*use layout 'own'"):
        save_checkpoint(tiny, tmp_path / 'model', layout='released')
    assert list(tmp_path.iterdir()) == []
