"""Whole runs: learning, going on after a kill, several processes, adapters, mixtures."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from demonstrations import write_demonstrations
from safetensors.torch import load_file
from training_runs import make_task, settings, train_policy

from lingbot_va_core.checkpoint import WorldModel, load_model
from lingbot_va_core.datasets.layout import DatasetError
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.presets import TINY
from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.session import Session
from lingbot_va_core.training.clips import TRAIN
from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.episodes import load_mixture, open_sources
from lingbot_va_core.training.policy_training import PolicyTask, check_reach
from lingbot_va_core.training.settings import PolicySettings, TrainingError, read_section, read_settings

ROOT = Path(__file__).resolve().parents[3]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / 'log.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def run_elsewhere(demonstrations: Dataset, cache: Path, folder: Path, *changes: str, processes: int = 0) -> list[str]:
    """The command that trains in a process of its own, or in several under torchrun."""
    launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={processes}'] if processes else []
    script = str(ROOT / 'test' / 'training_runs.py')
    return [sys.executable, *launcher, script, str(demonstrations.root), str(cache), str(folder), *changes]


def environment() -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'GLOO_SOCKET_IFNAME': 'lo'}


def test_a_run_learns_and_its_checkpoint_drives_a_session(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path, profile: RobotProfile
) -> None:
    chosen = settings('run.steps=25', 'run.precision=bfloat16', 'run.evaluate_every=25', 'rollout.chunk_frames=1')
    task = train_policy(small, demonstrations, cache, tmp_path / 'run', chosen)
    losses = [float(row['loss']) for row in rows(tmp_path / 'run') if row['loss']]
    assert len(losses) == 25 and np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert rows(tmp_path / 'run')[-1]['held_out_action']
    [picture] = (tmp_path / 'run' / 'pictures').iterdir()
    assert picture.name == 'imagined-000025.png' and list((tmp_path / 'run' / 'tensorboard').iterdir())

    model = load_model(tmp_path / 'run' / 'checkpoint', profile=profile)
    assert model.name == 'small (trained)' and model.config.rollout.chunk_frames == 1
    assert set(model.text.table) == {'follow the block', ''}
    weights = model.transformer.state_dict()
    state = load_file(tmp_path / 'run' / 'state-25' / '00000-of-00001.safetensors')
    average = {name.removeprefix('average.transformer.'): t for name, t in state.items() if name.startswith('average')}
    assert all(torch.equal(weights[name], tensor) for name, tensor in average.items()) and len(average) > 50
    assert not torch.equal(weights['proj_out.weight'], task.module.transformer.proj_out.weight)
    session = Session(model)
    session.start('follow the block')
    session.observe(0, torch.zeros(model.config.latent_shape))
    assert np.isfinite(session.predict().actions).all()


def test_a_killed_run_goes_on_to_the_same_weights_bit_by_bit(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path
) -> None:
    changes = ('run.steps=12', 'run.evaluate_every=12')
    whole = train_policy(small, demonstrations, cache, tmp_path / 'whole', settings(*changes))
    command = run_elsewhere(demonstrations, cache, tmp_path / 'killed', *changes)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / 'killed').glob('state-*')):  # somewhere in the steps after the first state
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / 'killed' / 'checkpoint').exists()
    subprocess.run(command, env=environment(), check=True, capture_output=True, timeout=60)

    one, other = (
        load_file(tmp_path / name / 'state-12' / '00000-of-00001.safetensors') for name in ('whole', 'killed')
    )
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(one['weight.transformer.proj_out.weight'], whole.module.transformer.proj_out.weight)
    timeless = [[{k: v for k, v in row.items() if k != 'seconds_per_step'} for row in rows(tmp_path / name)]
                for name in ('whole', 'killed')]  # fmt: skip
    assert timeless[0] == timeless[1]


def test_two_processes_have_the_losses_and_weights_of_one(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path
) -> None:
    train_policy(small, demonstrations, cache, tmp_path / 'one', settings('run.steps=4', 'run.evaluate_every=4'))
    changes = ('run.steps=4', 'run.evaluate_every=4')
    command = run_elsewhere(demonstrations, cache, tmp_path / 'two', *changes, processes=2)
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert '"processes": 2' in done.stdout, done.stderr
    for ours, theirs in zip(rows(tmp_path / 'two'), rows(tmp_path / 'one'), strict=True):
        for name in ('loss', 'video', 'action', 'fdm', 'gradient_norm', 'held_out_video', 'held_out_action'):
            assert bool(ours[name]) == bool(theirs[name])
            assert not ours[name] or float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-3)
    one, two = (load_file(tmp_path / name / 'checkpoint' / 'transformer.safetensors') for name in ('one', 'two'))
    assert all(torch.allclose(two[name], one[name], atol=2e-3) for name in one)
    assert len(list((tmp_path / 'two' / 'state-4').iterdir())) == 2
    with pytest.raises(TrainingError, match='written by 2 processes, not 1'):
        train_policy(small, demonstrations, cache, tmp_path / 'two', settings(*changes))


def test_adapters_leave_the_weights_alone_and_are_merged(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in small.transformer.state_dict().items()}
    train_policy(small, demonstrations, cache, tmp_path / 'run', settings('lora.rank=2', 'optimizer.ema=0'))
    after = load_model(tmp_path / 'run' / 'checkpoint').transformer.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all('blocks.' in name and name.endswith('.weight') for name in changed)
    delta = after['blocks.0.attn1.to_q.weight'] - before['blocks.0.attn1.to_q.weight']
    assert torch.linalg.matrix_rank(delta, tol=1e-6) == 2
    state = load_file(tmp_path / 'run' / 'state-6' / '00000-of-00001.safetensors')
    assert {name.rsplit('.', 1)[1] for name in state if name.startswith('weight.')} == {'up', 'down'}


def test_data_sets_of_other_channels_and_without_actions_are_mixed(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path, profile: RobotProfile
) -> None:
    silent = write_demonstrations(tmp_path / 'video', profile, seed=1, mask=False, instruction='watch')
    places = [(demonstrations.root, 1.0), (silent.root, 3.0)]
    task = make_task(small, places, cache, settings())
    assert task._trained._weights.tolist() == [0.25, 0.75]
    example = next(
        example
        for step in range(50)
        if not (example := task._example(task._trained, TRAIN, step, 0)).plan.fdm
        and len({bool(used.any()) for used in example.used}) == 2
    )
    without = (~example.used.bool().any(dim=1)).nonzero().item()
    assert not example.action.noisy[without].any() and not example.action.clean[without].any()
    loss, _ = task._forward(example)
    assert torch.isfinite(loss)
    with pytest.raises(TrainingError, match='has no actions; put a data set of the robot'):
        make_task(small, places[::-1], cache, settings())


def test_bad_data_is_named_before_anything_is_trained(
    small: WorldModel, tmp_path: Path, profile: RobotProfile, cache: Path
) -> None:
    data = write_demonstrations(tmp_path / 'bad', profile)
    [path] = (data.root / 'data').rglob('*.parquet')
    table = pq.read_table(path)
    actions = table['executed_action'].to_pylist()
    actions[40][2][14] = float('nan')
    column = table.schema.get_field_index('executed_action')
    pq.write_table(
        table.set_column(column, table.schema.field(column), pa.array(actions, table.schema.field(column).type)), path
    )
    with pytest.raises(DatasetError, match=r'episode 1, frame 7: executed_action is nan in channel 14'):
        train_policy(small, data, cache, tmp_path / 'run', settings())
    assert not (tmp_path / 'run').exists()


def test_another_run_is_not_overwritten(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path
) -> None:
    train_policy(small, demonstrations, cache, tmp_path / 'run', settings('run.steps=1'))
    with pytest.raises(TrainingError, match=r'other settings \(optimizer.lr 0.01 there, 0.02 here\)'):
        train_policy(small, demonstrations, cache, tmp_path / 'run', settings('run.steps=1', 'optimizer.lr=0.02'))
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'cat.png').touch()
    with pytest.raises(TrainingError, match='exists and holds no run'):
        train_policy(small, demonstrations, cache, tmp_path / 'photos', settings())


def test_clips_that_are_shorter_than_the_context_at_inference_are_told() -> None:
    path = share_dir() / 'config' / 'training' / 'tiny.yaml'
    shipped = read_settings(PolicySettings, read_section(path, 'policy'))
    assert check_reach(shipped.clips, shipped.rollout.apply(TINY.rollout)) is None
    assert shipped.clips.frames == 8
    short = replace(shipped.clips, frames=6)
    assert 'clips.frames is 6, but the context at inference has up to 8' in check_reach(short, TINY.rollout)
    with pytest.raises(TrainingError, match='chunk_frames is 4, but chunks of 1 to 2 frames are trained'):
        check_reach(shipped.clips, replace(TINY.rollout, chunk_frames=4))


def test_the_first_data_set_is_shown_and_others_cannot_hide_its_losses(
    small: WorldModel, demonstrations: Dataset, cache: Path, tmp_path: Path, profile: RobotProfile
) -> None:
    places = [(demonstrations.root, 1.0)]
    for name, frames in (('long', 49), ('short', 9)):
        root = tmp_path / name
        write_demonstrations(root, profile, episodes=2, frames=frames, seed=2, instruction=name)
        places.append((root, 1.0))
    chosen = settings('clips.frames=3', 'run.evaluate_batches=1')
    task = make_task(small, places, cache, chosen)
    assert task._shown.instruction == 'follow the block'

    model = replace(small, config=replace(small.config, rollout=chosen.rollout.apply(small.config.rollout)))
    sources = open_sources(places, chosen.clips)
    mixture = load_mixture(sources, model, cache, chosen.clips.holdout)
    brief = [replace(episode, latents=episode.latents[:2]) for episode in mixture.held_out[2][0]]
    cut = replace(mixture, held_out=[*mixture.held_out[:2], (brief, 1.0)])
    task = PolicyTask(model, cut, chosen, World())
    assert task._held_out._weights.tolist() == [0.5, 0.5] and task.evaluate()['video'] > 0
    cut = replace(mixture, held_out=[(brief, 1.0), *mixture.held_out[1:]])
    task = PolicyTask(model, cut, chosen, World())
    assert not task.draw(tmp_path / 'picture.png') and task.evaluate()['video'] > 0
