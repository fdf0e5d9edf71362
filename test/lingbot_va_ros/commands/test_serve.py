"""`lingbot-va serve`, from the command line to the end of its process."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from policy_client import PATIENCE_S, PolicyClient, play, released_model

from lingbot_va_core.checkpoint import save_checkpoint
from lingbot_va_core.presets import ROLLOUTS
from lingbot_va_ros import cli


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with the channels of libero."""
    folder = tmp_path_factory.mktemp('model') / 'small'
    save_checkpoint(released_model('libero'), folder)
    return folder


def test_a_client_is_served_until_the_server_is_asked_to_end(checkpoint: Path, tmp_path: Path) -> None:
    key, announcement = tmp_path / 'key', tmp_path / 'server.json'
    key.write_text('open-sesame\n')
    options = [
        '--checkpoint',
        checkpoint,
        '--preset',
        'libero',
        '--port',
        '0',
        '--api-key-file',
        key,
        '--json',
        announcement,
    ]
    server = subprocess.Popen(
        [sys.executable, '-m', 'lingbot_va_ros.cli', 'serve', *options], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not announcement.exists():
            assert server.poll() is None, server.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        served = json.loads(announcement.read_text())
        assert served['cameras'] == list(ROLLOUTS['libero'].cameras)
        with PolicyClient(served['port'], 'open-sesame') as client:
            (action,) = play(client, 'open the drawer', (128, 128), cycles=1)
        assert (action.shape, action.dtype) == ((7, 4, 4), np.float32)
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0
        assert 'Traceback' not in server.stderr.read()
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def test_it_imports_no_ros() -> None:
    script = (
        'import sys, lingbot_va_ros.commands.serve, lingbot_va_ros.serving.policy_server\n'
        'import lingbot_va_ros.serving.warm_up\n'
    )
    script += 'print([name for name in sys.modules if "rclpy" in name or name.endswith("_msgs")])'
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        (['--preset', 'moon'], "rollout 'moon' is unknown"),
        (['--preset', 'robotwin'], 'uses the action channels [0, 1, 2, 3, 4, 5, 28], not'),
        (['--robot', 'aloha'], "does not fit robot 'aloha'"),
        (['--preset', 'libero', '--port', '70000'], '--port is 70000; it must be from 0 to 65535'),
        (['--preset', 'libero', '--sessions', '0'], '--sessions is 0; it must be from 1'),
        (['--preset', 'libero', '--device', 'abacus'], "device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    checkpoint: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(['serve', '--checkpoint', str(checkpoint), *options]) == 2
    printed = capsys.readouterr().err
    assert problem in printed
    assert printed.count('\n') == 1


@pytest.mark.parametrize('text', ['', 'two words', 'schlüssel'])
def test_a_key_that_fits_no_header_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'key').write_text(text)
    options = ['--checkpoint', 'x', '--preset', 'libero', '--api-key-file', str(tmp_path / 'key')]
    assert cli.main(['serve', *options]) == 2
    assert str(tmp_path / 'key') in capsys.readouterr().err
