"""`lingbot-va eval`: table, numbers and films; bad usage is refused before anything runs."""

import json
from pathlib import Path

import pytest

from lingbot_va_ros.cli import main

KEYS = {'success_rate', 'successes', 'episodes', 'completion_s', 'mode', 'latency_ms', 'seed', 'per_episode'}
ALSO = {'confidence_95', 'checkpoint', 'model', 'task', 'robot', 'chunk', 'disturbance', 'ever_solved'}


def test_all_modes_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    numbers = tmp_path / 'numbers.json'
    out = tmp_path / 'out'
    arguments = ['--checkpoint', 'none', '--episodes', '1', '--seed', '5', '--mode', 'all', '--time-limit', '0.5']
    arguments += ['--chunk', '1', '--disturb']
    assert main(['eval', *arguments, '--workers', '1', '--out', str(out), '--json', str(numbers)]) == 0
    result = json.loads(numbers.read_text())
    assert list(result['modes']) == ['sync', 'naive', 'fdm']
    for mode, run in result['modes'].items():
        assert set(run) >= KEYS | ALSO
        assert (run['mode'], run['episodes'], run['seed'], run['latency_ms']) == (mode, 1, 5, 100.0)
        assert (run['chunk'], run['disturbance'], run['checkpoint']) == (1, 'reach', None)
        assert set(run['completion_s']) == {'mean', 'p50'}
        assert run['per_episode'][0]['seed'] == 5 and run['per_episode'][0]['duration_s'] == 0.5
        assert 0 <= run['confidence_95'][0] <= run['success_rate'] <= run['confidence_95'][1] <= 1
    assert {path.name for path in out.iterdir()} == {'sync.mp4', 'naive.mp4', 'fdm.mp4', 'results.json'}
    assert json.loads((out / 'results.json').read_text()) == result
    printed = capsys.readouterr().out
    assert 'untrained' in printed and '0 of 1' in printed and '0 to 79 %' in printed


def test_one_mode_has_the_keys_at_the_top(tmp_path: Path) -> None:
    numbers = tmp_path / 'numbers.json'
    arguments = ['--checkpoint', 'none', '--episodes', '1', '--mode', 'sync', '--time-limit', '0.1']
    arguments += ['--latency-ms', '250', '--video-s', '1']
    assert main(['eval', *arguments, '--workers', '1', '--json', str(numbers)]) == 0
    result = json.loads(numbers.read_text())
    assert set(result) >= KEYS | ALSO
    assert (result['mode'], result['latency_ms'], result['chunk'], result['video_s']) == ('sync', 250.0, 2, 1.0)


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        (['--episodes', '0'], '0 episodes'),
        (['--workers', '0'], '--workers is 0'),
        (['--latency-ms', '-1'], 'latency_ms is -1'),
        (['--video-s', '1.5'], 'video_s is 1.5'),
        (['--robot', 'nobody'], "robot 'nobody' is unknown"),
        (['--task', 'juggling'], "task 'juggling' is unknown"),
        (['--checkpoint', '/nowhere/at/all', '--workers', '1'], '/nowhere/at/all'),
        (['--device', 'abacus', '--workers', '1'], "device 'abacus'"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: list[str], problem: str, capsys: pytest.CaptureFixture) -> None:
    assert main(['eval', *arguments]) == 2
    complaint = capsys.readouterr().err.strip().splitlines()
    assert complaint[-1].startswith('lingbot-va eval: error: ') and problem in complaint[-1]
