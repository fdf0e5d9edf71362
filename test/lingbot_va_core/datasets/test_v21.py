"""The older format, read as the training code of the released checkpoints reads it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_dataset import FRAMES, image, make_spec, signal, write_one

from lingbot_va_core.datasets.layout import DatasetError, DatasetSpec
from lingbot_va_core.datasets.v21 import DATA_PATH, VIDEO_PATH
from lingbot_va_core.datasets.video import frame_stamps, read_frames
from lingbot_va_core.datasets.writer import DatasetWriter
from lingbot_va_core.quantiles import read_quantiles

ROWS = 4 * (FRAMES - 1) + 1
USED = [15, 28, 14]  # as the profile orders its joints


@pytest.fixture
def spec() -> DatasetSpec:
    return replace(make_spec(), channels={'elbow': 15, 'gripper': 28, 'shoulder': 14})


@pytest.fixture
def root(tmp_path: Path, spec) -> Path:
    writer = DatasetWriter(tmp_path / 'data', spec, version='v2.1')
    for index in range(2):
        write_one(writer, index)
    return writer.finish(2)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_actions_of_a_latent_frame_are_sixteen_rows_from_the_frame_before(root):
    """Zeros for latent frame 0, then the rows from `frame_ids[0]` on, cut to 16 for each latent frame.

    A column of zeros goes behind the vectors, and a table gives each of the 30 channels its column.
    """
    inverse = json.loads((root / 'meta' / 'va_config.json').read_text())['inverse_used_action_channel_ids']
    for entry in lines(root / 'meta' / 'episodes.jsonl'):
        index = entry['episode_index']
        [config] = entry['action_config']
        assert config == {'start_frame': 0, 'end_frame': ROWS, 'action_text': f'task {index}'}
        table = pq.read_table(root / DATA_PATH.format(episode_chunk=0, episode_index=index))
        action = np.array(table.column('action').to_pylist())[config['start_frame'] : config['end_frame']]
        frame_ids = list(range(0, entry['length'], 4))
        assert len(frame_ids) == FRAMES
        count = (len(frame_ids) - 1) // 4 + 1
        action = np.pad(action, ((16, 0), (0, 1)))[: 16 * count, inverse].reshape(count, 16, 30)
        assert len(action) == 3 and not action[0].any()
        assert np.allclose(action[1, 0], signal(index, 0, 0.1)) and np.allclose(action[2, 15], signal(index, 31, 0.1))


def test_rows_are_control_periods(root):
    table = pq.read_table(root / DATA_PATH.format(episode_chunk=0, episode_index=1))
    states = np.array(table.column('observation.state').to_pylist())
    assert np.allclose(states, [signal(1, k, 0.3)[USED] for k in range(ROWS)])
    executed = np.array(table.column('executed_action').to_pylist())
    assert np.allclose(executed[:-1], [signal(1, k, 0.2)[USED] for k in range(ROWS - 1)])
    assert np.allclose(table.column('timestamp').to_pylist(), np.arange(ROWS) / 50, atol=1e-6)
    assert table.column('index').to_pylist() == list(range(ROWS, 2 * ROWS))
    assert set(table.column('task_index').to_pylist()) == {1}


def test_every_row_has_its_image(root, spec):
    for view in spec.cameras:
        key = f'observation.images.{view.name}'
        path = root / VIDEO_PATH.format(episode_chunk=0, video_key=key, episode_index=0)
        _, stamps = frame_stamps(path)
        assert np.array_equal(stamps, np.arange(ROWS) * 20_000_000)
        for row, shown in enumerate(read_frames(path, view, 0, 20_000_000, ROWS)):
            assert np.abs(shown.astype(int) - image(view, row // 4)).mean() < 2


def test_the_tables_say_what_there_is(root, spec):
    info = json.loads((root / 'meta' / 'info.json').read_text())
    assert (info['codebase_version'], info['fps'], info['total_frames']) == ('v2.1', 50, 2 * ROWS)
    assert (info['total_videos'], info['total_chunks'], info['total_tasks']) == (4, 1, 2)
    assert info['features']['action'] == {
        'dtype': 'float32', 'shape': [3], 'names': ['left_joint_1', 'left_gripper', 'left_joint_0']
    }  # fmt: skip
    assert lines(root / 'meta' / 'tasks.jsonl') == [{'task_index': i, 'task': f'task {i}'} for i in range(2)]
    first, second = lines(root / 'meta' / 'episodes_stats.jsonl')
    wanted = np.array([signal(0, k, 0.1)[USED] for k in [*range(ROWS - 1), ROWS - 2]])
    assert np.allclose(first['stats']['action']['mean'], wanted.mean(0), atol=1e-5)
    assert second['stats']['index'] == {'min': [33], 'max': [65], 'mean': [49], 'std': pytest.approx([9.52], abs=0.01),
                                        'count': [33]}  # fmt: skip
    assert np.shape(first['stats']['observation.images.head']['mean']) == (3, 1, 1)


def test_it_says_how_to_configure_the_released_code(root):
    config = json.loads((root / 'meta' / 'va_config.json').read_text())
    assert config['used_action_channel_ids'] == USED and config['action_per_frame'] == 16
    inverse = config['inverse_used_action_channel_ids']
    assert [inverse[channel] for channel in USED] == [0, 1, 2] and set(inverse) == {0, 1, 2, 3}
    actions = np.array([signal(i, k, 0.1) for i in range(2) for k in [*range(ROWS - 1), ROWS - 2]])
    assert np.allclose(config['norm_stat']['q01'], np.quantile(actions, 0.01, axis=0), atol=1e-5)
    (root / 'norm_stat.json').write_text(json.dumps(config['norm_stat']))
    assert np.allclose(read_quantiles(root / 'norm_stat.json', USED).q99, config['norm_stat']['q99'])


def test_an_interrupted_data_set_of_another_format_is_refused(tmp_path, spec):
    DatasetWriter(tmp_path / 'data', spec, version='v2.1')
    with pytest.raises(DatasetError, match='begun with other settings'):
        DatasetWriter(tmp_path / 'data', spec)


def test_an_unknown_format_is_refused(tmp_path, spec):
    with pytest.raises(DatasetError, match=r"the format is 'v1'; choose one of v3\.0, v2\.1"):
        DatasetWriter(tmp_path / 'data', spec, version='v1')
