"""A suite of evaluations: the rows of tables, read from YAML, each measured once for a checkpoint's content."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from lingbot_va_core.checkpoint import is_checkpoint
from lingbot_va_core.checkpoint_digest import checkpoint_digest
from lingbot_va_core.training.settings import read_settings
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.evaluation import LATENCY_MS, TIME_LIMIT_S, Plan

SHIPPED = ''  # the checkpoint of a row that names none
NOT_SETTINGS = ('label', 'checkpoint', 'made')


@dataclass(frozen=True)
class Row:
    """One line of a table; what is not explained here is as in `Plan`.

    Attributes:
        label: what people read.
        checkpoint: name of a folder beside the others; '': the checkpoint that the suite is about.
        made: the commands that make that folder.
    """

    label: str = ''
    checkpoint: str = SHIPPED
    made: str = ''
    robot: str = 'aloha'
    task: str = 'transfer_cube'
    mode: str = 'sync'
    episodes: int = 100
    seed: int = 90000
    latency_ms: float = LATENCY_MS
    chunk: int | None = None
    video_s: float | None = None
    disturbance: str | None = None
    time_limit_s: float = TIME_LIMIT_S

    def plan(self, checkpoint: Path | None, device: str = 'cpu') -> Plan:
        """Return what is to be run with a checkpoint's folder."""
        settings = {name: value for name, value in asdict(self).items() if name not in NOT_SETTINGS}
        mode = settings.pop('mode')
        return Plan(checkpoint=checkpoint and str(checkpoint), modes=(mode,), device=device, **settings)


@dataclass(frozen=True)
class Table:
    """Rows that belong together; times are compared with the first row of mode sync."""

    title: str
    text: str
    rows: tuple[Row, ...]


def read_suite(path: Path) -> list[Table]:
    """Read `defaults`, fields of all rows, and `tables`, each with title, text and rows.

    Raises:
        SimulationError, ConfigError: names the file, the field and the value.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SimulationError(f'{path} cannot be read: {error}') from error
    if not isinstance(document, dict) or not isinstance(document.get('tables'), list):
        raise SimulationError(f'{path} must be a mapping with defaults and tables')
    tables, defaults = [], document.get('defaults') or {}
    for table in document['tables']:
        if not isinstance(table, dict) or not isinstance(table.get('rows'), list) or not table['rows']:
            raise SimulationError(f'{path}: {table!r:.80} must be a mapping with title, text and rows')
        title = str(table.get('title', ''))
        rows = [
            _row({**defaults, **row} if isinstance(row, dict) else row, f'{path}: {title}') for row in table['rows']
        ]
        tables.append(Table(title, ' '.join(str(table.get('text', '')).split()), tuple(rows)))
    return tables


def _row(document: object, where: str) -> Row:
    row = read_settings(Row, document, where=where)
    row.plan(None).check()
    return row


def checkpoint_folder(row: Row, shipped: Path, others: Path) -> Path:
    """Return where a row's checkpoint is to be; of a training run's folder, the checkpoint in it once there is one."""
    folder = others / row.checkpoint if row.checkpoint else shipped
    return folder / 'checkpoint' if is_checkpoint(folder / 'checkpoint') else folder


def measurement_key(row: Row, checkpoint: Path) -> str:
    """Return the hash of a row's settings and of all that decides what its checkpoint does; raises OSError."""
    settings = {name: value for name, value in asdict(row).items() if name not in NOT_SETTINGS}
    parts = json.dumps(settings, sort_keys=True), checkpoint_digest(checkpoint)
    return hashlib.sha256(' '.join(parts).encode()).hexdigest()[:24]


def speed_up(sync: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Return how many times as fast `other` is as `sync`, over the starts that both solved; None if there are none."""
    times: list[dict[int, float]] = [
        {episode['seed']: episode['completion_s'] for episode in numbers['per_episode'] if episode['success']}
        for numbers in (sync, other)
    ]
    both = times[0].keys() & times[1].keys()
    ours = sum(times[1][seed] for seed in both)
    return sum(times[0][seed] for seed in both) / ours if ours else None


def sync_row(results: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """Return the first measured row of mode sync."""
    return next((numbers for numbers in results if numbers and numbers['mode'] == 'sync'), None)
