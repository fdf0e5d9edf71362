"""The suite of the shipped checkpoint, and how times are compared."""

from pathlib import Path

import pytest

from lingbot_va_sim.suite import checkpoint_folder, read_suite, speed_up, sync_row

ROOT = Path(__file__).resolve().parents[2]
TABLES = read_suite(ROOT / 'config' / 'evaluation' / 'tiny.yaml')


def episodes(times: dict[int, float | None]) -> dict:
    return {
        'per_episode': [
            {'seed': seed, 'success': time is not None, 'completion_s': time} for seed, time in times.items()
        ]
    }


def test_all_rows_of_a_table_begin_with_the_same_starts() -> None:
    for table in TABLES:
        assert len({(row.task, row.seed, row.episodes) for row in table.rows}) == 1
        assert all(row.seed >= 90000 for row in table.rows)  # demonstrations count up from 0


def test_slow_inference_takes_most_of_a_chunk(slow: float = 0.8, latent_ms: float = 320.0) -> None:
    slowed = [row for table in TABLES for row in table.rows if row.latency_ms > 100]
    assert {row.mode for row in slowed} == {'sync', 'naive', 'fdm'}
    assert all(row.latency_ms == pytest.approx(slow * row.chunk * latent_ms) for row in slowed)


def test_every_other_checkpoint_comes_with_the_commands_that_make_it() -> None:
    others = [row for table in TABLES for row in table.rows if row.checkpoint]
    assert {row.checkpoint for row in others} == {'demos_240', 'demos_50', 'demos_10', 'shared', 'clean_history'}
    assert all(f'--out out/ablations/{row.checkpoint}' in row.made for row in others)


def test_the_folder_of_a_run_stands_for_its_checkpoint(tmp_path: Path) -> None:
    row = next(row for row in TABLES[-1].rows if row.checkpoint == 'shared')
    assert checkpoint_folder(row, tmp_path, tmp_path / 'others') == tmp_path / 'others' / 'shared'
    trained = tmp_path / 'others' / 'shared' / 'checkpoint'
    trained.mkdir(parents=True)
    assert checkpoint_folder(row, tmp_path, tmp_path / 'others') == trained.parent
    (trained / 'config.json').write_text('{}')
    assert checkpoint_folder(row, tmp_path, tmp_path / 'others') == trained
    assert checkpoint_folder(TABLES[0].rows[0], tmp_path / 'own', tmp_path) == tmp_path / 'own'


def test_times_are_compared_over_the_starts_that_both_solved() -> None:
    slow = episodes({1: 10.0, 2: 8.0, 3: None, 4: 30.0})
    assert speed_up(slow, episodes({1: 5.0, 2: 4.0, 3: 1.0, 4: None})) == 2.0
    assert speed_up(slow, episodes({3: 1.0})) is None
    assert sync_row([None, {'mode': 'fdm'}, {'mode': 'sync'}]) == {'mode': 'sync'}
    assert sync_row([None, {'mode': 'fdm'}]) is None
