"""Everything that would spoil a training is named with its episode and frame before it starts."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import image

from lingbot_va_core.datasets import tables
from lingbot_va_core.datasets.checks import check, find_problems
from lingbot_va_core.datasets.layout import DatasetError, View
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.datasets.video import VideoWriter


def change_rows(dataset: Dataset, change: Callable[[pa.Table], pa.Table]) -> None:
    (path,) = (dataset.root / 'data').glob('*/*.parquet')
    pq.write_table(change(pq.read_table(path)), path)


def change_episodes(dataset: Dataset, name: str, values: list) -> Dataset:
    (path,) = (dataset.root / 'meta' / 'episodes').glob('*/*.parquet')
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values)), path)
    return Dataset(dataset.root)


def film(path: Path, view: View, stamps: list[int], period_ns: int = 80_000_000) -> None:
    """Write frames only at some of the instants 0, 1, 2... periods."""
    writer = VideoWriter(path, view, period_ns)
    for stamp in stamps:
        writer._count = stamp
        writer.add(image(view, stamp))
    writer.close()


def test_a_sound_data_set_has_no_problems(dataset):
    assert list(find_problems(dataset)) == []
    check(dataset)


@pytest.mark.parametrize('name', ['action', 'executed_action', 'observation.state'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(dataset, name, value):
    def spoil(table: pa.Table) -> pa.Table:
        values = tables.values(table, name, (4, 30)).copy()
        values[9 + 5, 2, 15] = value
        return table.set_column(table.column_names.index(name), name, tables.column(values))

    change_rows(dataset, spoil)
    with pytest.raises(DatasetError, match=rf'episode 1, frame 5: {name} is {value} in channel 15; record'):
        check(dataset)


def test_a_missing_video_is_named(dataset):
    os.remove(dataset[1].video_file('wrist'))
    with pytest.raises(DatasetError, match=r'episode 1: the video of wrist cannot be used: .* is missing'):
        check(dataset)


def test_a_damaged_video_is_named(dataset):
    dataset[1].video_file('wrist').write_bytes(b'no video at all')
    with pytest.raises(DatasetError, match='episode 1: the video of wrist cannot be used'):
        check(dataset)
    with pytest.raises(DatasetError, match=r'episode 1 .*wrist cannot be read'):
        dataset[1].images('wrist')


def test_a_short_video_is_named_with_the_first_frame_that_is_missing(dataset):
    film(dataset[2].video_file('head'), dataset.spec.cameras[0], list(range(10)))
    with pytest.raises(DatasetError, match='episode 2, frame 10: head has 10 frames of 13'):
        check(dataset)
    with pytest.raises(DatasetError, match=r'episode 2 .*frame 10 of head is missing'):
        dataset[2].images('head')


def test_a_frame_that_is_missing_within_is_named(dataset):
    film(dataset[0].video_file('head'), dataset.spec.cameras[0], [0, 1, 2, 4, 5, 6, 7, 8])
    with pytest.raises(DatasetError, match=r'episode 0, frame 3: head has a frame at 0\.320 s where 0\.240 s is due'):
        check(dataset)
    with pytest.raises(DatasetError, match=r'frame 3 of head is at 0\.320 s instead of 0\.240 s'):
        dataset[0].images('head')


def test_a_video_of_another_rate_is_named(dataset):
    film(dataset[0].video_file('head'), dataset.spec.cameras[0], list(range(9)), period_ns=40_000_000)
    with pytest.raises(DatasetError, match=r'episode 0, frame 1: head .* its rate is not 12\.5 Hz'):
        check(dataset)


def test_a_camera_of_another_size_is_named(dataset):
    film(dataset[0].video_file('head'), View('head', 32, 32), list(range(9)))
    with pytest.raises(DatasetError, match='episode 0: head has 32 x 32 pixels, but 64 x 48 were announced'):
        check(dataset)


def test_rows_of_another_rate_are_named(dataset):
    def slow(table: pa.Table) -> pa.Table:
        stamps = tables.values(table, 'timestamp', ()) * 2
        return table.set_column(table.column_names.index('timestamp'), 'timestamp', pa.array(stamps))

    change_rows(dataset, slow)
    with pytest.raises(DatasetError, match=r'episode 0, frame 1: it is at 0\.160 s; at 12\.5 Hz 0\.080 s is due'):
        check(dataset)


@pytest.mark.parametrize('frames', [0, 1, 4])
def test_an_episode_without_a_latent_frame_is_named(dataset, frames):
    with pytest.raises(DatasetError, match=f'episode 1: it has {frames} video frames; a latent frame takes 5'):
        check(change_episodes(dataset, 'length', [9, frames, 13]))


def test_missing_rows_are_named(dataset):
    change_rows(dataset, lambda table: table.slice(0, 29))
    with pytest.raises(DatasetError, match='episode 2, frame 11: 11 rows for 13 frames'):
        check(dataset)
    with pytest.raises(DatasetError, match='has 11 rows for 13 frames'):
        _ = dataset[2].actions


def test_a_missing_signal_is_named(dataset):
    change_rows(dataset, lambda table: table.drop_columns(['executed_action']))
    with pytest.raises(DatasetError, match=r'episode 0: it has no executed_action .and 2 more.'):
        check(dataset)


def test_one_line_tells_the_first_problem_and_counts_the_others(dataset):
    for index in (0, 2):
        os.remove(dataset[index].video_file('wrist'))
    with pytest.raises(DatasetError) as refused:
        check(dataset)
    assert 'episode 0' in str(refused.value) and '(and 1 more)' in str(refused.value)
    assert '\n' not in str(refused.value)


def test_the_table_of_episodes_must_be_there(dataset):
    (path,) = (dataset.root / 'meta' / 'episodes').glob('*/*.parquet')
    path.unlink()
    with pytest.raises(DatasetError, match='the table of episodes cannot be read'):
        Dataset(dataset.root)
    assert json.loads((dataset.root / 'meta' / 'info.json').read_text())['total_episodes'] == 3
