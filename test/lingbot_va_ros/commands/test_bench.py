"""`lingbot-va bench`, also on the real nodes, and `up`."""

import json
from pathlib import Path

import pytest
from support import Program

from lingbot_va_ros import cli


def test_bench_nodes_measures_the_real_graph(tmp_path: Path) -> None:
    file = tmp_path / 'bench.json'
    with Program('-m', 'lingbot_va_ros.cli', 'bench', 'nodes', '--seconds', '2', '--json', str(file)) as program:
        assert program.wait(240) == 0, program.output
    assert 'Traceback' not in program.output
    numbers = json.loads(file.read_text())
    assert numbers['command_rate_hz'] == pytest.approx(50.0, rel=0.5)
    assert numbers['baseline']['timer_period_ms']['p50'] == pytest.approx(20.0, rel=0.5)
    assert numbers['chunks'] >= 1
    assert numbers['chunk_latency_ms']['p50'] > 0
    assert set(numbers['nodes']) == {'sim_bridge', 'action', 'perception', 'world_model'}
    assert all(node['cpu_percent'] > 0 and node['memory_mib'] > 20 for node in numbers['nodes'].values())
    assert all(camera['rate_hz'] > 1 for camera in numbers['cameras'].values())


def test_up_exits_2_when_a_node_refuses_its_parameters() -> None:
    with Program('-m', 'lingbot_va_ros.cli', 'up', '--task', 'juggle') as program:
        assert program.wait(120) == 2
    assert program.lines[-1].startswith('lingbot-va up: error: sim_bridge exited with code 2: refused: task is')
    assert 'Traceback' not in program.output


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
