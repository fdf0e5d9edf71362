"""The LeRobot v2.1 format, with the `action_config` that the training code of the released checkpoints reads.

That code takes one action from each row, and 4 * n rows for a latent frame of which every n-th row has a video frame
(https://github.com/Robbyant/lingbot-va, custom data sets). A row is therefore a control period here, and the videos
repeat each image until the next one. It takes vectors of the channels in use, and finds the place of each by the table
`inverse_used_action_channel_ids` of its configuration; `CONFIGURATION` has what is to be set there.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.datasets import tables
from lingbot_va_core.datasets.layout import (
    ACTION,
    CHANNEL_NAMES,
    FILES_PER_FOLDER,
    INDICES,
    INFO,
    SIGNALS,
    SPEC,
    STATE,
    DatasetSpec,
    image_key,
)
from lingbot_va_core.datasets.statistics import ImageStatistics, VectorStatistics
from lingbot_va_core.robot import ACTION_DIM

VERSION = 'v2.1'
DATA_PATH = 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet'
VIDEO_PATH = 'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4'
EPISODES, EPISODES_STATS, TASKS = 'meta/episodes.jsonl', 'meta/episodes_stats.jsonl', 'meta/tasks.jsonl'
CONFIGURATION = 'meta/va_config.json'  # for the released training code
QUANTILES = ('q01', 'q99')
STATISTICS = ('min', 'max', 'mean', 'std', 'count')  # without the quantiles, which came later


def video_path(camera: str, episode: int) -> str:
    """Return where the video of a camera is, relative to the data set."""
    return VIDEO_PATH.format(
        episode_chunk=episode // FILES_PER_FOLDER, video_key=image_key(camera), episode_index=episode
    )


def assemble(root: Path, spec: DatasetSpec, staged: list[Path]) -> None:
    """Write `data` and `meta` below `root`; one episode is in memory at a time."""
    (root / EPISODES).parent.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, int] = {}
    actions = VectorStatistics()
    rows = 0
    with (root / EPISODES).open('w') as episodes, (root / EPISODES_STATS).open('w') as statistics:
        for index, path in enumerate(staged):
            staged_table, notes = tables.read_episode(path)
            task = tasks.setdefault(notes['instruction'], len(tasks))
            table = _episode_table(spec, staged_table, index, task, rows)
            place = root / DATA_PATH.format(episode_chunk=index // FILES_PER_FOLDER, episode_index=index)
            place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.replace_schema_metadata(_hugging_face_metadata(spec)), place)
            actions.add(tables.values(table, ACTION, (len(spec.used_channels),)))
            _write_line(episodes, _episode_line(index, len(table), notes))
            stats = _statistics(spec, table, len(staged_table), notes)
            _write_line(statistics, {'episode_index': index, 'stats': stats})
            rows += len(table)
    _write_lines(root / TASKS, ({'task_index': index, 'task': task} for task, index in tasks.items()))
    (root / SPEC).write_text(json.dumps(spec.to_dict(), indent=2))
    (root / CONFIGURATION).write_text(json.dumps(_configuration(spec, actions), indent=2))
    (root / INFO).write_text(json.dumps(_info(spec, len(staged), rows, len(tasks)), indent=4))


def _episode_table(spec: DatasetSpec, staged: pa.Table, index: int, task: int, first: int) -> pa.Table:
    """Spread rows of video frames into rows of control periods, from the first image to the last."""
    count = (len(staged) - 1) * spec.steps + 1
    columns = {}
    for name in SIGNALS:
        values = tables.values(staged, name, (spec.steps, ACTION_DIM)).reshape(-1, ACTION_DIM)
        values = values[spec.steps - 1 :] if name == STATE else values[:count]
        columns[name] = tables.column(values[:, spec.used_channels])
    frames = np.arange(count)
    columns['timestamp'] = pa.array((frames * spec.clock.action_ns / NANOSECONDS).astype(np.float32))
    for name, values in (
        ('frame_index', frames),
        ('episode_index', np.full(count, index)),
        ('index', first + frames),
        ('task_index', np.full(count, task)),
    ):
        columns[name] = pa.array(values)
    return pa.table(columns)


def _episode_line(index: int, length: int, notes: dict) -> dict:
    return {
        'episode_index': index,
        'tasks': [notes['instruction']],
        'length': length,
        'action_config': [{'start_frame': 0, 'end_frame': length, 'action_text': notes['instruction']}],
        'success': notes['success'],
        'attributes': notes['attributes'],
    }


def _statistics(spec: DatasetSpec, table: pa.Table, images: int, notes: dict) -> dict[str, dict[str, list]]:
    found = {
        image_key(view.name): ImageStatistics(notes['images'][view.name], images).result() for view in spec.cameras
    }
    for name in (*SIGNALS, *INDICES):
        vectors = VectorStatistics()
        vectors.add(
            tables.values(table, name, (len(spec.used_channels),) if name in SIGNALS else ()).reshape(len(table), -1)
        )
        found[name] = vectors.result()
    return {
        feature: {name: values[name].tolist() for name in STATISTICS} for feature, values in found.items()
    }  # fmt: skip


def _configuration(spec: DatasetSpec, actions: VectorStatistics) -> dict[str, Any]:
    """Return the fields of the released configuration that depend on the data; channels out of use stay 0 there."""
    used, quantiles = spec.used_channels, actions.result()
    spread = {name: np.zeros(ACTION_DIM) for name in QUANTILES}
    for name in QUANTILES:
        spread[name][used] = quantiles[name]
    return {
        'action_dim': ACTION_DIM,
        'action_per_frame': spec.clock.actions_per_latent,
        'used_action_channel_ids': used,
        'inverse_used_action_channel_ids': [
            used.index(channel) if channel in used else len(used) for channel in range(ACTION_DIM)
        ],
        'action_norm_method': 'quantiles',
        'norm_stat': {name: values.tolist() for name, values in spread.items()},
    }


def _info(spec: DatasetSpec, episodes: int, rows: int, tasks: int) -> dict:
    info = spec.info(episodes, rows, tasks)
    for name in ('data_files_size_in_mb', 'video_files_size_in_mb'):
        del info[name]
    fps = NANOSECONDS / spec.clock.action_ns
    for feature in info['features'].values():
        if feature['dtype'] == 'video':
            feature['info']['video.fps'] = fps
    names = [CHANNEL_NAMES[channel] for channel in spec.used_channels]
    info['features'] |= {name: {'dtype': 'float32', 'shape': [len(names)], 'names': names} for name in SIGNALS}
    return info | {
        'codebase_version': VERSION,
        'total_videos': episodes * len(spec.cameras),
        'total_chunks': -(-episodes // FILES_PER_FOLDER),
        'fps': int(fps) if fps.is_integer() else fps,
        'data_path': DATA_PATH,
        'video_path': VIDEO_PATH,
    }


def _hugging_face_metadata(spec: DatasetSpec) -> dict[bytes, bytes]:
    length = len(spec.used_channels)
    vector = {'feature': {'dtype': 'float32', '_type': 'Value'}, 'length': length, '_type': 'Sequence'}
    features = dict.fromkeys(SIGNALS, vector)
    features |= {name: {'dtype': dtype, '_type': 'Value'} for name, dtype in INDICES.items()}
    return {b'huggingface': json.dumps({'info': {'features': features}}).encode()}


def _write_line(file: object, entry: dict) -> None:
    file.write(json.dumps(entry) + '\n')


def _write_lines(path: Path, entries: Iterable[dict]) -> None:
    with path.open('w') as file:
        for entry in entries:
            _write_line(file, entry)
