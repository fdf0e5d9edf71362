"""What a demo shows people: the numbers as a table, and where the files are."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FILES = {
    'episode.mp4': 'real cameras above, imagined video below',
    'preview.png': 'a few frames of it',
    'summary.json': 'these numbers',
    'bag': 'everything that was sent (rosbag2, MCAP)',
    'nodes.log': 'what the nodes said',
}


def print_summary(summary: dict[str, Any], out: Path) -> None:
    """Print the table on standard output."""
    console = Console()
    table = Table(title=f'{summary["robot"]}: {summary["instruction"]}', show_header=False, title_justify='left')
    for name, value in _rows(summary).items():
        table.add_row(name, value)
    console.print(table)
    for name, what in FILES.items():
        console.print(f'{out / name}  [dim]{what}[/dim]', highlight=False, soft_wrap=True)


def _rows(summary: dict[str, Any]) -> dict[str, str]:
    period, latency = summary['command_period_ms'], summary['chunk_latency_ms']
    checkpoint = f' ({summary["checkpoint"]})' if summary['checkpoint'] else ''
    return {
        'success': 'yes' if summary['success'] else 'no',
        'task, mode': f'{summary["task"]}, {summary["mode"]}',
        'model': f'{summary["model"]}{checkpoint}',
        'episode': _number(summary['episode_s'], 's'),
        'command rate': _number(summary['command_rate_hz'], 'Hz', 2),
        'command period': _spread(period, 'ms', 1),
        'chunks': f'{summary["chunks"]}, each {_number(summary["chunk_motion_ms"], "ms", 0)} of motion',
        'chunk latency': _spread(latency, 'ms', 0),
        'chunk margin': _spread(summary['chunk_margin_ms'], 'ms', 0),
        'context restarts': str(summary['restarts']),
        'ticks without action': f'{summary["held_ticks"]} held, of these {summary["starved_ticks"]} starved',
        'images': f'{summary["images_received"]} received, {summary["images_dropped"]} dropped',
        'camera rates': ', '.join(f'{name} {_number(rate, "Hz")}' for name, rate in summary['camera_hz'].items()),
    }


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return '-' if value is None else f'{value:.{digits}f} {unit}'


def _spread(values: dict[str, float | None], unit: str, digits: int) -> str:
    return ', '.join(f'{name} {_number(value, unit, digits)}' for name, value in values.items())
