"""`lingbot-va results`: rows are measured once, missing checkpoints are named, page and card have what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.model_card import CARD, read_results
from lingbot_va_core.robot import load_profile
from lingbot_va_ros.cli import main

SUITE = """
defaults: {episodes: 1, seed: 5, time_limit_s: 0.3}
tables:
  - title: Modes
    text: Both at once.
    rows: [{label: waits, mode: sync}, {label: goes on, mode: fdm, disturbance: reach}]
  - title: Others
    rows: [{label: fewer, checkpoint: demos_10, made: lingbot-va train policy --out demos_10}]
"""
RUN = {'what': 'policy', 'robot': 'aloha', 'command': 'lingbot-va train policy'}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite and a checkpoint that has learned nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'suite.yaml').write_text(SUITE)
    save_checkpoint(replace(load_model(None, 'tiny', load_profile('aloha')), training=(RUN,)), tmp_path / 'model')
    return tmp_path


def results(*more: str) -> int:
    return main(['results', '--suite', 'suite.yaml', '--checkpoint', 'model', '--workers', '1', *more])


def test_rows_are_measured_once_and_written(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert results('--json', 'all.json') == 0
    page = (folder / 'out' / 'results' / 'results.md').read_text()
    for text in ('# Results of model', '## Modes', 'Both at once.', '| waits | sync | 100 ms | 2 | 0 of 1 | 0 % (0 to ',
                 'disturbance `reach`', 'seeds 5 to 5', '| fewer | sync | 100 ms | - | not measured |',
                 'Not measured: there was no such checkpoint.', 'lingbot-va train policy --out demos_10',
                 '| World model: command | `lingbot-va train policy` |', '--suite suite.yaml'):  # fmt: skip
        assert text in page, text
    assert 'there is no checkpoint: out/ablations/demos_10' in capsys.readouterr().out
    assert [row['value'] for row in read_results(folder / 'model')] == [0.0, 0.0]
    assert 'Modes: goes on, fdm' in (folder / 'model' / CARD).read_text()
    numbers = json.loads((folder / 'all.json').read_text())
    assert numbers['missing'] == ['out/ablations/demos_10'] and len(numbers['rows']) == 2
    assert numbers['rows'][0]['hardware']['workers'] == 1 and numbers['rows'][0]['checkpoint'] == 'model'

    files = {path: path.stat().st_mtime_ns for path in (folder / 'out' / 'results').glob('*.json')}
    assert len(files) == 2
    files_before = dict(files)
    next(iter(files)).unlink()  # as if it had been ended before that row
    assert results() == 0
    again = {path: path.stat().st_mtime_ns for path in (folder / 'out' / 'results').glob('*.json')}
    assert again.keys() == files_before.keys() and len(again.items() & files_before.items()) == 1
    assert (folder / 'out' / 'results' / 'results.md').read_text().count('0 of 1') == 2


def test_another_checkpoint_is_measured_anew_and_a_card_alone_is_not(folder: Path) -> None:
    assert results() == 0
    (folder / 'model' / CARD).write_text('edited')
    assert results('--write-only', '--page', 'page.md') == 0
    assert (folder / 'page.md').read_text().count('0 of 1') == 2
    save_checkpoint(load_model(None, 'tiny', load_profile('aloha'), seed=1), folder / 'model')
    assert results('--write-only', '--page', 'page.md') == 0
    assert '0 of 1' not in (folder / 'page.md').read_text()


@pytest.mark.parametrize('more', [(), ('--write-only',)])
def test_a_run_that_has_no_checkpoint_yet_is_not_measured(
    more: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / 'out' / 'ablations' / 'demos_10' / 'state-1').mkdir(parents=True)
    (folder / 'suite.yaml').write_text('tables: [{title: Others, rows: [{label: fewer, checkpoint: demos_10}]}]')
    assert results(*more) == 0
    assert 'there is no checkpoint: out/ablations/demos_10\n' in capsys.readouterr().out
    page = (folder / 'out' / 'results' / 'results.md').read_text()
    assert '| fewer | sync | 100 ms | - | not measured |' in page
    assert '### demos_10\n\nNot measured: there was no such checkpoint.' in page


def test_a_device_or_a_checkpoint_that_cannot_be_used_is_refused_before_the_first_row(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert results('--device', 'cuda:99') == 2
    error = capsys.readouterr().err
    assert "device 'cuda:99' cannot be used" in error and error.count('\n') == 1
    other = folder / 'out' / 'ablations' / 'demos_10' / 'transformer'
    other.mkdir(parents=True)
    (other / 'config.json').write_text('{}')
    assert results() == 2
    error = capsys.readouterr().err
    assert 'give a checkpoint of our own layout' in error and error.count('\n') == 1
    assert not (folder / 'out' / 'results').exists()


@pytest.mark.parametrize(
    ('suite', 'problem'),
    [
        ('tables: 3', 'must be a mapping with defaults and tables'),
        ('tables: [{title: A, rows: [{mood: sync}]}]', 'unknown mood; choose from label, checkpoint'),
        ('tables: [{title: A, rows: [{episodes: many}]}]', 'episodes is'),
        ('tables: [{title: A, rows: [{mode: async}]}]', "mode is 'async'"),
        ('tables: [{title: A, rows: [nothing]}]', 'must be a mapping'),
        ('tables: [{title: A, rows: []}]', 'title, text and rows'),
        ('{', 'cannot be read'),
    ],
)
def test_a_suite_that_cannot_be_run_is_refused(
    suite: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'suite.yaml').write_text(suite)
    assert main(['results', '--suite', str(tmp_path / 'suite.yaml')]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count('\n') == 1
