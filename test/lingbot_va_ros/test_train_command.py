"""`lingbot-va train`, from demonstrations to a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from demonstrations import write_demonstrations

from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot import load_profile
from lingbot_va_ros.cli import main

torch.set_num_threads(1)
SHORT = ['--quiet', '--steps', '1', '--set', 'run.batch=1', '--set', 'run.evaluate_batches=1']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_demonstrations(tmp_path_factory.mktemp('data') / 'swing', load_profile('aloha'), episodes=2)


def test_two_commands_lead_to_a_checkpoint(data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    common = ['--dataset', str(data.root), *SHORT]
    assert main(['train', 'vae', *common, '--out', str(tmp_path / 'vae')]) == 0
    files = ['--model', f'{tmp_path}/vae/checkpoint', '--cache', f'{tmp_path}/cache', '--json', f'{tmp_path}/a.json']
    arguments = [*files, '--freeze-video', '--set', 'clips.fdm_share=0']
    command = ['train', 'policy', *common, *arguments, '--out', str(tmp_path / 'run')]
    assert main(command) == 0
    assert 'held-out episodes: ' in capsys.readouterr().out
    assert json.loads((tmp_path / 'a.json').read_text())['steps'] == 1

    before, after = (load_model(tmp_path / run / 'checkpoint', profile=load_profile('aloha')) for run in ('vae', 'run'))
    assert after.name == 'tiny (swing, 1 steps)'
    assert after.config.rollout.relative_poses is False
    vae, policy = after.training
    assert [vae['what'], policy['what']] == ['vae', 'policy'] and before.training == (vae,)
    assert policy['start'] == before.name and policy['robot'] == 'aloha'
    assert (policy['steps'], policy['clips_per_step'], policy['seed']) == (1, 1, 0)
    assert policy['command'].startswith('lingbot-va train policy --dataset data') and str(tmp_path) not in str(policy)
    assert set(policy['held_out']) == {'video', 'action'} and policy['hardware']['threads'] == 1
    assert policy['datasets'][0]['episodes'] == 2 and policy['datasets'][0]['instructions'] == ['follow the block']
    assert 'follow the block' in (tmp_path / 'run' / 'checkpoint' / 'README.md').read_text()
    assert all(torch.equal(a, b) for a, b in zip(before.vae.parameters(), after.vae.parameters(), strict=True))
    weights, trained = (dict(model.transformer.named_parameters()) for model in (before, after))
    assert {name for name in weights if not torch.equal(weights[name], trained[name])}
    assert torch.equal(weights['blocks.0.attn1.to_q.weight'], trained['blocks.0.attn1.to_q.weight'])
    assert not weights['proj_out.weight'].any() and trained['action_proj_out.weight'].any()
    assert main(command) == 0  # nothing is left to do


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--dataset', '/nowhere'], '/nowhere is not a data set'),
        (['--dataset', '/nowhere:much'], "the weight is 'much'; give a number"),
        (['--dataset', '/nowhere', '--set', 'run.speed=1'], 'unknown speed'),
        (['--dataset', '/nowhere', '--config', '/none.yaml'], '/none.yaml cannot be read'),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(['train', 'policy', '--out', str(tmp_path / 'run'), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--freeze-video'], '--freeze-video is for train policy'),
        (['--lora', '4'], '--lora is for train policy'),
        (['--keep-quantiles'], '--keep-quantiles is for train policy'),
        (['--name', 'mine'], '--name is for train policy'),
        (['--cache', '/tmp'], '--cache is for train policy'),
        (['--vae', '/tmp'], '--vae is for train policy'),
        (['--dataset', '/nowhere:2'], '--dataset /nowhere:2: train vae takes all data sets alike'),
    ],
)
def test_the_vae_refuses_what_it_would_not_heed(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(['train', 'vae', '--dataset', '/nowhere', '--out', str(tmp_path / 'run'), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_a_robot_of_ones_own_is_given_by_its_profile(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    document = yaml.safe_load((share_dir() / 'config' / 'robots' / 'aloha.yaml').read_text())
    document |= {'name': 'my_robot', 'camera_layout': 'width'}
    document['cameras'].popitem()
    own = tmp_path / 'my_robot.yaml'
    own.write_text(yaml.safe_dump(document))
    write_demonstrations(tmp_path / 'swing', load_profile(str(own)), episodes=2)
    command = ['train', 'vae', '--dataset', f'{tmp_path}/swing', *SHORT, '--out', f'{tmp_path}/vae']
    for robot, problem in (
        ([], "robot 'my_robot' is unknown; choose one of"),
        (['--robot', 'aloha'], "--robot aloha is 'aloha', but the first data set is of 'my_robot'"),
        (['--robot', 'aloha', '--model', 'any'], '--model and --robot are both given'),
    ):
        assert main([*command, *robot]) == 2
        error = capsys.readouterr().err
        assert problem in error and error.count('\n') == 1
    assert main([*command, '--robot', str(own)]) == 0
    model = load_model(tmp_path / 'vae' / 'checkpoint', profile=load_profile(str(own)))
    assert model.config.rollout.camera_layout == 'width' and model.training[0]['robot'] == 'my_robot'


def test_a_run_does_not_go_on_with_other_data_or_other_weights(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root, robot = tmp_path / 'swing', load_profile('aloha')
    write_demonstrations(root, robot, episodes=2)
    model = load_model(None, 'tiny', robot, seed=1)
    save_checkpoint(model, tmp_path / 'start')
    command = ['train', 'policy', '--dataset', str(root), '--model', f'{tmp_path}/start', '--out', f'{tmp_path}/run']
    command += [*SHORT, '--cache', f'{tmp_path}/cache', '--set', 'clips.frames=6']
    assert main(command) == 0
    assert 'warning: clips.frames is 6, but the context' in capsys.readouterr().err
    save_checkpoint(load_model(None, 'tiny', robot, seed=2), tmp_path / 'start')
    assert main(command) == 2
    assert 'a run with other settings (content.' in capsys.readouterr().err
    save_checkpoint(model, tmp_path / 'start')
    assert main(command) == 0
    shutil.rmtree(root)
    write_demonstrations(root, robot, episodes=2, seed=1)
    assert main(command) == 2
    assert 'other settings (content.dataset 1 ' in capsys.readouterr().err
