"""Agreement with rollouts of the released code (test/data/golden), and replays of rollouts of any setting."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_rollout import write_rollout
from safetensors.torch import load_file, save_file

from lingbot_va_core.golden import GoldenError, load_golden, relative_error, replay

GOLDEN = Path(__file__).resolve().parents[1] / 'data' / 'golden'
TOLERANCE = 1e-4


@pytest.mark.parametrize('name', ['width3', 'partial'])
def test_every_cycle_agrees_with_the_released_code(name: str) -> None:
    errors = replay(load_golden(GOLDEN / name))
    assert len(errors.cycles) == 3
    assert errors.largest < TOLERANCE


def test_tshape_with_eviction_guidance_and_partial_denoising_agrees(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / 'width3', tmp_path, dirs_exist_ok=True)  # for its weights
    shutil.copytree(GOLDEN / 'tshape', tmp_path, dirs_exist_ok=True)
    golden = load_golden(tmp_path)
    held, written = golden.model.config.cache_slots, 2 * (golden.model.config.video_tokens + 5) * golden.cycles
    assert written > 2 * held
    errors = replay(golden)
    assert len(errors.cycles) == 5
    assert errors.largest < TOLERANCE


def swap_cameras(tensors: dict[str, torch.Tensor], what: str) -> None:
    left, right = (f'{what}.observation.images.cam_{side}_wrist' for side in ('left', 'right'))
    tensors[left], tensors[right] = tensors[right], tensors[left]


def test_a_wrong_observation_is_seen_at_once() -> None:
    golden = load_golden(GOLDEN / 'width3')
    swap_cameras(golden.tensors, 'cycle0.obs0')
    errors = replay(golden)
    assert errors.init_latent > 0.01
    assert errors.cycles[0].actions > TOLERANCE


def test_wrong_key_frames_are_seen_in_the_next_cycle() -> None:
    golden = load_golden(GOLDEN / 'width3')
    swap_cameras(golden.tensors, 'cycle1.keyframes')
    errors = replay(golden)
    assert max(errors.init_latent, errors.cycles[0].actions, errors.cycles[1].actions) < TOLERANCE
    assert errors.cycles[2].latents > TOLERANCE


def test_bf16_runs_and_is_close() -> None:
    errors = replay(load_golden(GOLDEN / 'partial', dtype=torch.bfloat16))
    assert TOLERANCE < errors.largest < 0.3


def test_weights_that_overflow_are_an_infinite_error() -> None:
    golden = load_golden(GOLDEN / 'partial')
    golden.model.transformer.proj_out.weight.data.fill_(float('inf'))
    errors = replay(golden)
    assert errors.largest == float('inf')
    assert len(errors.cycles) == 1


TSHAPE = {'env_type': 'robotwin_tshape', 'width': 64}
SETTINGS: list[dict[str, Any]] = [
    {},
    {**TSHAPE, 'guidance_scale': 5, 'attn_window': 72},
    {**TSHAPE, 'width': 96, 'action_per_frame': 2},  # a token in which both wrists meet
    {**TSHAPE, 'frame_chunk_size': 3, 'attn_window': 4, 'video_exec_step': 2, 'cycles': 5},
    {'obs_cam_keys': ['front'], 'frame_chunk_size': 1, 'attn_window': 4, 'action_guidance_scale': 2.0, 'cycles': 6},
    {'obs_cam_keys': ['a', 'b'], 'frame_chunk_size': 4, 'action_per_frame': 5, 'video_exec_step': 3, 'attn_window': 5},
    {'guidance_scale': 3, 'action_guidance_scale': 2, 'attn_window': 6, 'cycles': 5, 'action_snr_shift': 0.05},
    {'used_action_channel_ids': [29, 3, 0], 'guidance_scale': 0.0, 'num_inference_steps': 1},
]


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_a_rollout_of_any_setting_is_replayed(settings: dict[str, Any], tmp_path: Path) -> None:
    """The recording draws its noise in the released order, and treats images by hand."""
    write_rollout(tmp_path / 'rollout', **settings)
    golden = load_golden(tmp_path / 'rollout')
    errors = replay(golden)
    assert len(errors.cycles) == settings.get('cycles', 3)
    assert errors.largest < 1e-5
    first = golden.tensors['cycle0.out.latents'][:, :, :1]
    assert torch.equal(first, golden.tensors['cycle0.init_latent'])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rollout(tmp_path / 'rollout', cycles=2)
    return tmp_path / 'rollout'


def edit_config(folder: Path, part: str, **values: Any) -> None:
    document = json.loads((folder / 'config.json').read_text())
    document[part].update(values)
    (folder / 'config.json').write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


def edit_tensors(folder: Path, file: str, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(folder / file), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / file)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda f: shutil.rmtree(f), 'config.json cannot be read'),
        (lambda f: (f / 'config.json').write_text('{'), 'is not JSON'),
        (lambda f: (f / 'config.json').write_text('{"vae": {}}'), 'lacks transformer, rollout, norm_stat, cycles'),
        (lambda f: edit_config(f, 'rollout', gain=1), 'rollout: unknown gain'),
        (lambda f: edit_config(f, 'vae', latents_std=[0.0] * 6), 'latents_std has 0.0'),
        (lambda f: (f / 'rollout.safetensors').unlink(), 'rollout.safetensors cannot be read'),
        (lambda f: (f / 'vae.safetensors').unlink(), 'vae.safetensors'),
        (lambda f: (f / 'transformer.safetensors').write_bytes(b'\0' * 9), 'transformer.safetensors'),
        (lambda f: edit_tensors(f, 'vae.safetensors', extra=torch.ones(1)), 'extra'),
        (
            lambda f: edit_tensors(f, 'rollout.safetensors', **{'cycle1.noise.video': None, 'prompt_embeds': None}),
            'lacks cycle1.noise.video, prompt_embeds',
        ),
        (
            lambda f: edit_tensors(
                f, 'rollout.safetensors', **{'cycle0.keyframes.left': torch.zeros(3, 8, 8, 3, dtype=torch.uint8)}
            ),
            r"cycle0.keyframes.left is \[3, 8, 8, 3\] and must be \[4, 'any', 'any', 3\]",
        ),
        (
            lambda f: edit_tensors(f, 'rollout.safetensors', **{'cycle0.frame_st_id_after': torch.tensor(3)}),
            'frame_st_id_after is 3; whole chunks lead to 2',
        ),
        (lambda f: edit_tensors(f, 'rollout.safetensors', prompt_embeds=torch.zeros(1, 513, 8)), '513 rows'),
        (
            lambda f: edit_tensors(f, 'rollout.safetensors', **{'cycle0.obs0.high': torch.zeros(40, 52, 3)}),
            'cycle0.obs0.high is torch.float32; images, and only these, must be uint8',
        ),
        (
            lambda f: edit_tensors(
                f, 'rollout.safetensors', **{'cycle1.out.actions': torch.full((6, 2, 3), torch.nan)}
            ),
            'cycle1.out.actions has a value that is not finite',
        ),
    ],
)
def test_a_bad_folder_is_refused_in_one_line(damage: Callable[[Path], Any], message: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(GoldenError, match=message) as error:
        load_golden(folder)
    assert '\n' not in str(error.value)


def test_the_relative_error_is_that_of_the_largest_value() -> None:
    recorded = torch.tensor([1.0, -4.0])
    assert relative_error(torch.tensor([1.2, -4.0]), recorded) == pytest.approx(0.05)
    assert relative_error(torch.tensor([float('nan'), -4.0]), recorded) == float('inf')
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
