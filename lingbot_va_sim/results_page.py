"""A page of results in Markdown: the tables of a suite with what was measured, and what was not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lingbot_va_core.checkpoint import is_checkpoint
from lingbot_va_core.hardware import hardware_line
from lingbot_va_core.model_card import card_lines
from lingbot_va_sim.suite import Row, Table, speed_up, sync_row

COLUMNS = ('', 'mode', 'latency', 'K', 'solved', 'rate (95 %)', 'ever', 'completion', 'against sync', 'model per chunk')
NONE = '-'
HOW = """\
*Solved*: the last stage of the task kept for a second within the time limit ([evaluation.md](evaluation.md)). *rate
(95 %)*: with Wilson's interval. *ever*: episodes in which the last stage was reached at any time. *latency*: virtual
time from the beginning of a prediction until its chunk is there; *K*: latent frames per chunk. *completion*: mean,
median of the solved episodes. *against sync*: how many times as fast as the table's first row of mode sync, over the
starts that both solved. *model per chunk*: measured time of video + actions (+ grounding), on one thread each while the
other processes were at work; it is no part of the virtual time."""


def results_page(
    title: str,
    command: str,
    measured: Sequence[tuple[Table, Sequence[Mapping[str, Any] | None]]],
    checkpoints: Mapping[str, Path],
) -> str:
    """Write the page.

    Args:
        title: of the page.
        command: that writes it.
        measured: each table, and for each of its rows what `summarize` returns, with `date` and `hardware`; None: the
            row was not measured.
        checkpoints: by name, the folder of each, which need not exist.
    """
    every = [numbers for _, results in measured for numbers in results if numbers]
    lines = [f'# {title}', '', f'Written by `{command}`; nothing here is typed by hand.', '']
    dates: dict[str, list[str]] = {}
    for numbers in every:
        place = f'{hardware_line(numbers["hardware"])}, {numbers["hardware"]["workers"]} processes'
        dates.setdefault(place, []).append(numbers['date'])
    for place, days in sorted(dates.items()):
        lines.append(f'Measured on {place}; {" to ".join(dict.fromkeys((min(days), max(days))))}.')
    lines += ['', HOW]
    for table, results in measured:
        lines += ['', f'## {table.title}', '', *([table.text, ''] if table.text else []), *_table(table, results)]
        lines += _below(table, results)
    return '\n'.join([*lines, *_checkpoints(measured, checkpoints)]) + '\n'


def _table(table: Table, results: Sequence[Mapping[str, Any] | None]) -> list[str]:
    sync = sync_row(results)
    lines = [_line(COLUMNS), _line(['---'] * len(COLUMNS))]
    for row, numbers in zip(table.rows, results, strict=True):
        if numbers is None:
            latency = f'{row.latency_ms:g} ms'
            lines.append(_line([row.label, row.mode, latency, row.chunk or NONE, 'not measured', *[NONE] * 5]))
        else:
            lines.append(_line(_cells(row, numbers, sync)))
    return lines


def _cells(row: Row, numbers: Mapping[str, Any], sync: Mapping[str, Any] | None) -> list[str]:
    low, high = (100 * bound for bound in numbers['confidence_95'])
    times, model = numbers['completion_s'], numbers['model_ms']
    ratio = speed_up(sync, numbers) if sync and sync is not numbers else None
    return [
        row.label,
        row.mode,
        f'{numbers["latency_ms"]:g} ms',
        str(numbers['chunk']),
        f'{numbers["successes"]} of {numbers["episodes"]}',
        f'{100 * numbers["success_rate"]:.0f} % ({low:.0f} to {high:.0f})',
        str(numbers['ever_solved']),
        NONE if times['mean'] is None else f'{times["mean"]:.1f} s, {times["p50"]:.1f} s',
        NONE if ratio is None else f'{ratio:.2f}',
        NONE if model['video'] is None else '{video:.0f} + {action:.0f} (+ {grounding:.0f}) ms'.format(**model),
    ]


def _below(table: Table, results: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Say what is the same for many rows, and what went wrong."""
    settings = dict.fromkeys(
        f'{row.task}, seeds {row.seed} to {row.seed + row.episodes - 1}, at most {row.time_limit_s:g} s'
        + (f', disturbance `{row.disturbance}`' if row.disturbance else '')
        for row in table.rows
    )
    lines = ['', f'{"; ".join(settings)}.']
    for row, numbers in zip(table.rows, results, strict=True):
        if numbers and row.disturbance and numbers['disturbed'] < numbers['episodes']:
            lines.append(f'"{row.label}", {row.mode}: {numbers["disturbed"]} of the episodes were disturbed.')
        if numbers and numbers['failed_sessions']:
            lines.append(f'"{row.label}", {row.mode}: {numbers["failed_sessions"]} sessions failed.')
    return lines


def _checkpoints(
    measured: Sequence[tuple[Table, Sequence[Mapping[str, Any] | None]]],
    checkpoints: Mapping[str, Path],
) -> list[str]:
    """Say where each checkpoint comes from, or how it would be made."""
    made = {row.checkpoint: row.made for table, _ in measured for row in table.rows if row.made}
    lines = ['', '## The checkpoints']
    for name, folder in checkpoints.items():
        lines += ['', f'### {name or folder.name}', '']
        if is_checkpoint(folder):
            lines += ['| | |', '|---|---|', *(_line(pair) for pair in card_lines(folder))]
        else:
            lines.append('Not measured: there was no such checkpoint.')
        if name in made:
            lines += ['', '```bash', *made[name].strip().splitlines(), '```']
    return lines


def _line(cells: Sequence[object]) -> str:
    return f'| {" | ".join(str(cell) for cell in cells)} |'
