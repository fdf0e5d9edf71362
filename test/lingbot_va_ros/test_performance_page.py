"""Suites of benchmarks and the page that shows what they measured."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from lingbot_va_core.hardware import describe_hardware
from lingbot_va_ros.bench_tables import sheets
from lingbot_va_ros.commands import bench
from lingbot_va_ros.performance_page import SuiteError, read_suite, run_suite, write_tables

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/performance.md'
SUITES = sorted((ROOT / 'config/benchmarks').glob('*.yaml'))


def training() -> dict[str, Any]:
    """What `bench train` writes."""
    times = {'min': 9.0, 'p50': 10.0, 'max': 12000.0}
    counts = [
        {'processes': n, 'step_ms': times, 'tokens_per_s': 100.0 * n, 'memory_mib': 321.0, 'scaling': float(n)}
        for n in (1, 2)
    ]
    return {
        'command': "lingbot-va bench train --set 'run.batch=2' --json out.json",
        'date': '2026-01-02',
        'hardware': describe_hardware(),
        'preset': 'tiny',
        'batch': 2,
        'latent_frames': 8,
        'tokens_per_step': 1664,
        'precision': 'bfloat16',
        'threads': 2,
        'counts': counts,
    }


@pytest.mark.parametrize('path', SUITES, ids=lambda path: path.stem)
def test_every_line_of_a_suite_is_one_that_bench_takes(path: Path) -> None:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    for kind, lines in read_suite(path).items():
        assert lines
        for options in lines:
            assert parser.parse_args([kind, *options]).what == kind


def test_the_page_has_a_place_for_every_kind_of_measurement() -> None:
    places = re.findall(r'<!-- measured: (\w+) -->.*?<!-- end -->', PAGE.read_text(), re.DOTALL)
    assert set(places) == set(read_suite(ROOT / 'config/benchmarks/cpu.yaml'))
    assert len(places) == len(set(places))


def test_tables_replace_what_was_measured_before_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- measured: train -->\nold\n<!-- end -->\nafter\n<!-- measured: vae --><!-- end -->\n')
    for _ in range(2):
        write_tables(page, {'train': [training()]})
    text = page.read_text()
    assert text.startswith('before\n<!-- measured: train -->\nMeasured on ')
    assert text.endswith('```\n<!-- end -->\nafter\n<!-- measured: vae --><!-- end -->\n')
    assert 'old' not in text
    assert '| 2 | 10 ms | 200 | 2.00 | 321 |' in text
    assert "lingbot-va bench train --set 'run.batch=2'\n" in text
    assert text.count('2026-01-02') == 1


def test_a_page_without_a_place_is_refused_unchanged(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('<!-- measured: vae --><!-- end -->')
    with pytest.raises(SuiteError, match='no place for train'):
        write_tables(page, {'train': [training()]})
    assert page.read_text() == '<!-- measured: vae --><!-- end -->'


@pytest.mark.parametrize(
    ('text', 'message'),
    [('', 'must be a mapping'), ('speed: [a]', 'must be a mapping of chunk'), ('vae: 3', 'vae is 3'), ('{', 'be read')],
)
def test_a_bad_suite_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / 'suite.yaml').write_text(text)
    with pytest.raises(SuiteError, match=message):
        read_suite(tmp_path / 'suite.yaml')


def test_a_suite_runs_line_by_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    line = ['--height', '32', '--width', '32', '--latents', '1', '--repeats', '1', '--threads', '1']
    measured = run_suite({'vae': [line]}, tmp_path)
    assert [each['height'] for each in measured['vae']] == [32]
    assert measured['vae'][0]['hardware']['threads'] == 1
    assert sheets('vae', measured['vae'])[0].rows[0][:3] == ('tiny', '32x32', '1')
    with pytest.raises(RuntimeError, match=r'--height 31.* ended with status 2'):
        run_suite({'vae': [['--height', '31']]}, tmp_path)
    assert 'no multiple of 16' in capfd.readouterr().err
