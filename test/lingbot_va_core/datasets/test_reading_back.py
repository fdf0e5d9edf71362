"""What was written comes back: signals exactly, images to the codec's tolerance."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_dataset import FRAMES, MASK, image, signal

from lingbot_va_core.datasets.layout import DatasetError, image_key
from lingbot_va_core.datasets.reader import Dataset


def test_signals_come_back_exactly_and_in_time(dataset):
    for index, frames in enumerate((FRAMES, FRAMES, 13)):
        episode, steps = dataset[index], 4 * (frames - 1)
        assert np.array_equal(episode.actions, [signal(index, k, 0.1) for k in range(steps)])
        assert np.array_equal(episode.executed, [signal(index, k, 0.2) for k in range(steps)])
        assert np.array_equal(episode.states, [signal(index, k, 0.3) for k in range(steps + 1)])


def test_a_row_holds_the_states_up_to_its_image_and_the_actions_after_it(dataset):
    table = dataset[0].table
    states, actions = (np.array(table.column(name).to_pylist()) for name in ('observation.state', 'action'))
    assert np.allclose(states[2, 3], signal(0, 8, 0.3)) and np.allclose(states[2, 0], signal(0, 5, 0.3))
    assert np.allclose(states[0], signal(0, 0, 0.3))  # nothing was before it
    assert np.allclose(actions[2, 0], signal(0, 8, 0.1)) and np.allclose(actions[2, 3], signal(0, 11, 0.1))
    assert np.allclose(actions[-1], signal(0, 4 * FRAMES - 5, 0.1))  # nothing is after it


def test_latent_frames_group_sixteen_actions_behind_frame_zero(dataset):
    episode = dataset[2]
    grouped = episode.latent_actions(episode.actions)
    assert (episode.frames, episode.latent_frames, grouped.shape) == (13, 3, (3, 16, 30))
    assert np.array_equal(grouped[1, 0], signal(2, 16, 0.1))


def test_images_come_back_in_order_and_in_any_part(dataset):
    for view in dataset.spec.cameras:
        images = dataset[2].images(view.name)
        assert images.shape == (13, view.height, view.width, 3) and images.dtype == np.uint8
        wanted = np.stack([image(view, frame) for frame in range(13)])
        assert np.abs(images.astype(int) - wanted).mean() < 2
        assert np.array_equal(dataset[2].images(view.name, 5, 9), images[5:9])


def test_facts_of_the_episodes_come_back(dataset):
    assert [episode.success for episode in dataset] == [True, False, True]
    assert [episode.instruction for episode in dataset] == ['task 0', 'task 1', 'task 0']
    assert [episode.attributes for episode in dataset] == [{'seed': 100}, {'seed': 101}, {'seed': 102}]
    assert dataset.spec.mask == MASK and dataset.spec.robot == 'small' and dataset.spec.fps == 12.5


def test_statistics_are_those_of_the_data(dataset):
    stats = json.loads((dataset.root / 'meta' / 'stats.json').read_text())
    rows = np.concatenate([np.array(e.table.column('action').to_pylist()).reshape(-1, 30) for e in dataset])
    for name, value in {'min': rows.min(0), 'max': rows.max(0), 'mean': rows.mean(0), 'std': rows.std(0),
                        'q01': np.quantile(rows, 0.01, axis=0), 'q99': np.quantile(rows, 0.99, axis=0)}.items():
        assert np.allclose(stats['action'][name], value, atol=1e-5), name
    level = np.concatenate([dataset[i].images('head').reshape(-1, 3) for i in range(3)]) / 255
    assert np.allclose(np.ravel(stats[image_key('head')]['mean']), level.mean(0), atol=0.01)
    assert stats[image_key('head')]['count'] == [31]


def test_rows_are_numbered_through_and_name_their_task(dataset):
    (path,) = (dataset.root / 'data').glob('*/*.parquet')
    table = pq.read_table(path)
    assert table.column('index').to_pylist() == list(range(31))
    assert table.column('task_index').to_pylist() == [0] * 9 + [1] * 9 + [0] * 13
    assert np.allclose(table.column('timestamp').to_pylist()[18:21], [0, 0.08, 0.16])


@pytest.mark.parametrize('start_stop', [(3, 3), (0, 14), (-1, 2)])
def test_frames_that_are_not_there_are_refused(dataset, start_stop):
    with pytest.raises(DatasetError, match=r'episode 2 .*it has 13'):
        dataset[2].images('head', *start_stop)


def test_an_unknown_camera_is_refused_with_those_there_are(dataset):
    with pytest.raises(DatasetError, match='no camera side; it has head, wrist'):
        dataset[0].images('side')


@pytest.mark.parametrize(('name', 'change', 'problem'), [
    ('info.json', {'codebase_version': 'v2.1'}, 'has the format v2.1; v3.0 is supported'),
    ('info.json', {'fps': 30}, 'fps is 30, but its clock has 12.5'),
    ('lingbot_va.json', {'mask': [True]}, 'mask has 1 values; it must have 30'),
])
def test_a_foreign_data_set_is_refused(dataset, name, change, problem):
    path = dataset.root / 'meta' / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=problem):
        Dataset(dataset.root)


def test_what_is_no_data_set_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r'is not a data set: it has no info\.json'):
        Dataset(tmp_path)
