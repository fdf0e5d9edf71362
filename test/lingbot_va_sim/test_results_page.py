"""The page of results: where and when its numbers were measured."""

from typing import Any

from lingbot_va_sim.evaluation import Episode, Plan
from lingbot_va_sim.results_page import results_page
from lingbot_va_sim.success import summarize
from lingbot_va_sim.suite import Row, Table


def measured(date: str, workers: int) -> dict[str, Any]:
    episode = Episode('fdm', 0, 7, True, 6.0, 7.0, 4, 20, None, '', chunk_frames=2)
    hardware = {'processor': 'An X', 'cores': 16, 'gpu': None, 'workers': workers}
    return {**summarize(Plan(), [episode]), 'date': date, 'hardware': hardware}


def test_numbers_of_so_many_processes_have_dates_of_their_own() -> None:
    results = [measured('2026-02-03', 1), measured('2026-02-01', 1), measured('2026-05-09', 16)]
    page = results_page('Results', 'lingbot-va results', [(Table('T', '', (Row(),) * 3), results)], {})
    lines = [line for line in page.splitlines() if line.startswith('Measured on')]
    assert lines == [
        'Measured on An X, 16 cores, 1 processes; 2026-02-01 to 2026-02-03.',
        'Measured on An X, 16 cores, 16 processes; 2026-05-09.',
    ]
