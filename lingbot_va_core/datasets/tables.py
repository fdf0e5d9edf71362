"""Parquet files: episodes of signals, and the tables of LeRobot's `meta` folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lingbot_va_core.datasets.layout import ACTION, EXECUTED, INDICES, SIGNALS, STATE, DatasetError, DatasetSpec
from lingbot_va_core.robot import ACTION_DIM

NOTES = b'lingbot_va'


def column(values: np.ndarray) -> pa.Array:
    """Turn [n, ...] into a column of (nested) lists."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.ListArray.from_arrays(pa.array(np.arange(0, len(array) + 1, size, dtype=np.int32)), array)
    return array


def values(table: pa.Table, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Turn a column back into [n, *shape]; raises DatasetError where a row has another size."""
    array = table.column(name).combine_chunks()
    for _ in shape:
        array = pc.list_flatten(array)
    flat = array.to_numpy(zero_copy_only=False)
    if flat.size != len(table) * int(np.prod(shape)):
        raise DatasetError(f'{name} has {flat.size} values in {len(table)} rows; it must have {list(shape)} in each')
    return flat.reshape(len(table), *shape)


def write_episode(path: Path, spec: DatasetSpec, index: int, signals: dict[str, np.ndarray], notes: dict) -> None:
    """Write the rows of an episode, `signals` float32 [rows, steps, 30], with `notes` beside them."""
    rows = len(signals[ACTION])
    columns = {name: column(signals[name]) for name in SIGNALS}
    frames = np.arange(rows)
    columns['timestamp'] = pa.array((frames / spec.fps).astype(np.float32))
    columns['frame_index'] = pa.array(frames)
    columns['episode_index'] = pa.array(np.full(rows, index))
    table = pa.table(columns).replace_schema_metadata({NOTES: json.dumps(notes).encode()})
    pq.write_table(table, path)


def read_episode(path: Path) -> tuple[pa.Table, dict]:
    """Read what `write_episode` wrote."""
    table = pq.read_table(path)
    return table.replace_schema_metadata(None), json.loads(table.schema.metadata[NOTES])


def hugging_face_metadata(spec: DatasetSpec) -> dict[bytes, bytes]:
    """Return the note by which the `datasets` library knows that signals are matrices."""
    matrix = {'shape': [spec.steps, ACTION_DIM], 'dtype': 'float32', '_type': 'Array2D'}
    features = dict.fromkeys((ACTION, EXECUTED, STATE), matrix)
    features |= {name: {'dtype': dtype, '_type': 'Value'} for name, dtype in INDICES.items()}
    return {b'huggingface': json.dumps({'info': {'features': features}}).encode()}


def write_tasks(path: Path, tasks: list[str]) -> None:
    """Write the instructions in the order of their index, as pandas does for a frame that is indexed by them."""
    table = pa.table({'task_index': pa.array(range(len(tasks)), pa.int64()), 'task': pa.array(tasks, pa.string())})
    described = [
        {'name': name, 'field_name': name, 'pandas_type': kind, 'numpy_type': dtype, 'metadata': None}
        for name, kind, dtype in (('task_index', 'int64', 'int64'), ('task', 'unicode', 'object'))
    ]
    note: dict[str, Any] = {'index_columns': ['task'], 'column_indexes': [], 'columns': described}
    pq.write_table(table.replace_schema_metadata({b'pandas': json.dumps(note).encode()}), path)
