"""`lingbot-va collect` makes a data set with its picture and numbers, and says in one line what it cannot do."""

import json
import multiprocessing
import threading
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.resources import share_dir
from lingbot_va_ros import cli


@pytest.fixture
def robot(tmp_path: Path) -> str:
    """ALOHA with small cameras."""
    profile = yaml.safe_load((share_dir() / 'config' / 'robots' / 'aloha.yaml').read_text())
    for camera in profile['cameras'].values():
        camera |= {'width': 48, 'height': 32}
    path = tmp_path / 'aloha.yaml'
    path.write_text(yaml.safe_dump(profile, sort_keys=False))
    return str(path)


def test_a_data_set_its_picture_and_its_numbers(robot, tmp_path, capsys):
    out = tmp_path / 'set'
    assert cli.main(['collect', '--robot', robot, '--episodes', '1', '--seed', '2', '--workers', '1',
                     '--out', str(out), '--json', str(tmp_path / 'numbers.json')]) == 0
    (episode,) = Dataset(out)
    numbers = json.loads((tmp_path / 'numbers.json').read_text())
    assert numbers['episodes'] == 1 and numbers['made_now'] == 1
    assert numbers['mistakes'] == {episode.attributes['mistake']: 1}
    assert numbers['motion_s'] == pytest.approx((episode.frames - 1) / 12.5)
    assert numbers['bytes'] == sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
    with Image.open(out / 'contact_sheet.png') as sheet:
        assert sheet.width > 1000
    assert '1 episodes' in capsys.readouterr().out
    assert cli.main(['collect', '--robot', robot, '--episodes', '1', '--out', str(out)]) == 2
    assert 'exists; choose another folder' in capsys.readouterr().err


@pytest.mark.parametrize(('arguments', 'problem'), [
    (['--episodes', '0'], '--episodes is 0; it must be at least 1'),
    (['--workers', '0'], '--workers is 0; it must be from 1 to 256'),
    (['--task', 'juggling'], "task 'juggling' is unknown; choose one of"),
    (['--robot', 'nobody'], "robot 'nobody' is unknown"),
    (['--seed', '-3'], 'seed is -3; it must be from 0'),
])
def test_what_cannot_be_collected_is_said_in_one_line(tmp_path, capsys, arguments, problem):
    assert cli.main(['collect', '--out', str(tmp_path / 'set'), *arguments]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


def test_without_cameras_there_is_no_traceback_and_the_next_try_goes_on(robot, tmp_path, capsys, monkeypatch):
    arguments = ['collect', '--robot', robot, '--episodes', '1', '--workers', '1', '--out', str(tmp_path / 'set')]
    with monkeypatch.context() as patch:
        patch.setenv('MUJOCO_GL', 'off')
        assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert 'MUJOCO_GL=off turns cameras off' in error and 'Traceback' not in error
    assert not (tmp_path / 'set').exists()
    assert cli.main(arguments) == 0


def test_a_worker_that_is_killed_ends_the_command(robot, tmp_path, capsys):
    def kill() -> None:
        deadline = time.monotonic() + 60
        while not (workers := multiprocessing.active_children()) and time.monotonic() < deadline:
            time.sleep(0.01)
        workers[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    assert cli.main(['collect', '--robot', robot, '--episodes', '1', '--out', str(tmp_path / 'set')]) == 1
    killer.join()
    error = capsys.readouterr().err
    assert 'a worker process died' in error and 'Traceback' not in error
    assert not (tmp_path / 'set').exists()
