"""`lingbot-va bench`, but on the real nodes."""

import json
from pathlib import Path

import pytest

from lingbot_va_ros import cli


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['--seconds', '0'], '--seconds is 0; it must be from 1 to 3600'), (['--no-sim'], '--no-sim: the benchmark')],
)
def test_bad_input_exits_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['bench', 'nodes', *arguments]) == 2
    assert message in capsys.readouterr().err


def test_bench_chunk_writes_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'chunk.json'
    options = ['--cycles', '2', '--threads', '1', '--window', '4', '--video-guidance', '5', '--no-encode']
    assert cli.main(['bench', 'chunk', *options, '--json', str(file)]) == 0
    numbers = json.loads(file.read_text())
    assert numbers['what'] == 'chunk' and numbers['difference']['agrees']
    assert numbers['guidance'] == {'video': 5.0, 'action': 1.0}
    assert numbers['window_tokens'] == 2 * 104
    assert numbers['hardware']['threads'] == 1
    shown = capsys.readouterr().out
    assert f'{numbers["speedup"]:.1f}' in shown and 'released way' in shown


def test_bench_cache_measures_every_history(tmp_path: Path) -> None:
    file = tmp_path / 'cache.json'
    options = ['--windows', '2', '1', '--repeats', '1', '--threads', '1', '--chunk-frames', '1']
    assert cli.main(['bench', 'cache', *options, '--json', str(file)]) == 0
    assert [row['windows'] for row in json.loads(file.read_text())['histories']] == [1, 2]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['chunk', '--preset', 'huge'], "preset 'huge' is unknown"),
        (['chunk', '--cycles', '0'], 'cycles is 0; it must be at least 1'),
        (['chunk', '--threads', '0'], '--threads is 0; it must be from 1'),
        (['chunk', '--device', 'cuda:9'], "device 'cuda:9' cannot be used"),
        (['chunk', '--height', '50'], '50x96 pixels does not divide'),
        (['cache', '--windows', '0'], 'windows is 0; it must be at least 1'),
        (['train', '--set', 'run.batch=0'], 'batch is 0'),
        (['all', '--suite', 'none.yaml'], 'none.yaml cannot be read'),
        (['all', '--page', 'none.md'], '--page is none.md; there is no such file'),
    ],
)
def test_what_cannot_be_measured_exits_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['bench', *arguments]) == 2
    assert message in capsys.readouterr().err
