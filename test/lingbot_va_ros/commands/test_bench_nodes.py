"""`lingbot-va bench nodes` on the real nodes."""

import json
from pathlib import Path

import pytest
from support import Program


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
