"""Joins staged episodes into the tables of a LeRobot v3 data set: `data`, `meta/episodes`, tasks and statistics."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lingbot_va_core.datasets import tables
from lingbot_va_core.datasets.layout import (
    DATA_FILE_BYTES,
    DATA_PATH,
    EPISODES_PATH,
    FILES_PER_FOLDER,
    INDICES,
    INFO,
    SIGNALS,
    SPEC,
    STATS,
    TASKS,
    DatasetSpec,
    image_key,
)
from lingbot_va_core.datasets.statistics import ImageStatistics, VectorStatistics
from lingbot_va_core.robot import ACTION_DIM

EPISODES_AT_ONCE = 100


def assemble(root: Path, spec: DatasetSpec, staged: list[Path]) -> None:
    """Write `data` and `meta` below `root`, anew if they are there; one episode is in memory at a time."""
    for folder in ('data', 'meta'):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / EPISODES_PATH.format(chunk_index=0, file_index=0)).parent.mkdir(parents=True)
    tasks: dict[str, int] = {}
    totals = _Totals(spec)
    rows = 0
    with _DataFiles(root, spec) as data, _EpisodesFile(root) as episodes:
        for index, path in enumerate(staged):
            table, notes = tables.read_episode(path)
            task = tasks.setdefault(notes['instruction'], len(tasks))
            count = len(table)
            table = table.append_column('index', pa.array(np.arange(rows, rows + count)))
            table = table.append_column('task_index', pa.array(np.full(count, task)))
            place = data.write(table)
            own = _Totals(spec)
            own.add(table, notes)
            totals.add(table, notes)
            episodes.write(
                {
                    'episode_index': index,
                    'tasks': [notes['instruction']],
                    'length': count,
                    'data/chunk_index': place[0],
                    'data/file_index': place[1],
                    'dataset_from_index': rows,
                    'dataset_to_index': rows + count,
                    'meta/episodes/chunk_index': 0,
                    'meta/episodes/file_index': 0,
                    **dict(_video_columns(spec, index, count)),
                    'success': notes['success'],
                    'attributes': json.dumps(notes['attributes']),
                    **{f'stats/{feature}/{name}': value for feature, stats in own.result().items()
                       for name, value in stats.items()},
                }
            )  # fmt: skip
            rows += count
    tables.write_tasks(root / TASKS, list(tasks))
    (root / STATS).write_text(json.dumps(totals.result()))
    (root / SPEC).write_text(json.dumps(spec.to_dict(), indent=2))
    (root / INFO).write_text(json.dumps(spec.info(len(staged), rows, len(tasks)), indent=4))


def _video_columns(spec: DatasetSpec, index: int, count: int) -> Iterator[tuple[str, Any]]:
    chunk_index, file_index = divmod(index, FILES_PER_FOLDER)
    for view in spec.cameras:
        key = f'videos/{image_key(view.name)}'
        yield f'{key}/chunk_index', chunk_index
        yield f'{key}/file_index', file_index
        yield f'{key}/from_timestamp', 0.0
        yield f'{key}/to_timestamp', count / spec.fps


class _DataFiles:
    """Parquet files of limited size; each episode is one row group, so that it can be read alone."""

    def __init__(self, root: Path, spec: DatasetSpec) -> None:
        self._root, self._metadata = root, tables.hugging_face_metadata(spec)
        self._writer: pq.ParquetWriter | None = None
        self._file, self._bytes = -1, 0

    def write(self, table: pa.Table) -> tuple[int, int]:
        """Append an episode; return the indices of the folder and the file that it went to."""
        table = table.replace_schema_metadata(self._metadata)
        if self._writer is None or self._bytes + table.nbytes > DATA_FILE_BYTES:
            self.close()
            self._file, self._bytes = self._file + 1, 0
            chunk_index, file_index = divmod(self._file, FILES_PER_FOLDER)
            path = self._root / DATA_PATH.format(chunk_index=chunk_index, file_index=file_index)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, table.schema)
        self._writer.write_table(table)
        self._bytes += table.nbytes
        return divmod(self._file, FILES_PER_FOLDER)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> '_DataFiles':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _EpisodesFile:
    """The table of episodes, written some rows at a time."""

    def __init__(self, root: Path) -> None:
        self._path = root / EPISODES_PATH.format(chunk_index=0, file_index=0)
        self._rows: list[dict] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: dict) -> None:
        self._rows.append(row)
        if len(self._rows) == EPISODES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._writer.schema if self._writer else None)
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._path, table.schema)
            self._writer.write_table(table)
            self._rows = []

    def __enter__(self) -> '_EpisodesFile':
        return self

    def __exit__(self, *exception: object) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()


class _Totals:
    """Statistics of all features over some episodes."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._spec = spec
        self._vectors = {name: VectorStatistics() for name in (*SIGNALS, *INDICES)}
        self._images = {view.name: ImageStatistics() for view in spec.cameras}

    def add(self, table: pa.Table, notes: dict) -> None:
        """Take an episode."""
        for name in SIGNALS:
            self._vectors[name].add(tables.values(table, name, (self._spec.steps, ACTION_DIM)).reshape(-1, ACTION_DIM))
        for name in INDICES:
            self._vectors[name].add(tables.values(table, name, ())[:, None])
        for name, statistics in self._images.items():
            statistics.merge(ImageStatistics(notes['images'][name], len(table)))

    def result(self) -> dict[str, dict[str, list]]:
        """Return the statistics by feature, as JSON."""
        statistics = {image_key(name): item.result() for name, item in self._images.items()}
        statistics |= {name: item.result() for name, item in self._vectors.items()}
        return {
            feature: {name: value.tolist() for name, value in items.items()} for feature, items in statistics.items()
        }
