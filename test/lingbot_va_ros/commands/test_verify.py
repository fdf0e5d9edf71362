"""`lingbot-va verify`: status 0, 1 or 2, a line per cycle, and the numbers as JSON."""

import json
from pathlib import Path

import pytest

from lingbot_va_ros import cli

GOLDEN = Path(__file__).resolve().parents[2] / 'data' / 'golden'


def test_a_rollout_that_agrees(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'verify.json'
    assert cli.main(['verify', str(GOLDEN / 'width3'), '--tolerance', '1e-4', '--json', str(file)]) == 0
    printed = capsys.readouterr().out
    assert '3 cameras (width), float32 on cpu' in printed
    assert [line.split()[:2] for line in printed.splitlines()[3:6]] == [['cycle', str(i)] for i in range(3)]
    assert printed.splitlines()[-1].endswith('tolerance 0.0001: agrees')
    content = json.loads(file.read_text())
    assert content['passed']
    errors = [content['init_latent'], *(cycle[key] for cycle in content['cycles'] for key in ('latents', 'actions'))]
    assert len(errors) == 7
    assert content['largest'] == max(errors) < 1e-4


def test_a_rollout_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'verify.json'
    assert cli.main(['verify', str(GOLDEN / 'partial'), '--tolerance', '1e-12', '--json', str(file)]) == 1
    assert 'DIFFERS' in capsys.readouterr().out
    assert json.loads(file.read_text())['passed'] is False


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'nowhere/config.json cannot be read: No such file or directory'),
        ([str(GOLDEN)], 'config.json cannot be read'),
        ([str(GOLDEN / 'width3'), '--tolerance', '0'], '--tolerance is 0.0; it must be above 0'),
        ([str(GOLDEN / 'width3'), '--tolerance', 'nan'], '--tolerance is nan'),
        ([str(GOLDEN / 'width3'), '--device', 'toaster'], "device 'toaster' cannot be used"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(['verify', *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert message in error
