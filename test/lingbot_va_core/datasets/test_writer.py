"""A data set is written whole or not at all, by several processes if need be, and goes on after an interruption."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from small_dataset import image, signal, write_in_a_process, write_one

from lingbot_va_core.datasets.layout import DatasetError
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.datasets.writer import DatasetWriter


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()}


def test_processes_write_side_by_side_and_order_does_not_matter(tmp_path, spec):
    context = multiprocessing.get_context('spawn')
    workers = [context.Process(target=write_in_a_process, args=(tmp_path / 'a', i, False)) for i in (1, 0)]
    writer = DatasetWriter(tmp_path / 'a', spec, {'seed': 1})
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    other = DatasetWriter(tmp_path / 'b', spec, {'seed': 1})
    for index in (0, 1):
        write_one(other, index)
    assert contents(writer.finish(2)) == contents(other.finish(2))


def test_a_killed_writer_leaves_only_whole_episodes_and_another_goes_on(tmp_path, spec):
    root = tmp_path / 'data'
    write_one(DatasetWriter(root, spec, {'seed': 1}), 0)
    worker = multiprocessing.get_context('spawn').Process(target=write_in_a_process, args=(root, 1, True))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 9
    writer = DatasetWriter(root, spec, {'seed': 1})
    assert writer.done() == {0} and not root.exists()
    with pytest.raises(DatasetError, match='episode 1 of 2 is missing'):
        writer.finish(2)
    write_one(writer, 1)
    assert len(Dataset(writer.finish(2))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ['data']
    assert sorted(path.name for path in root.iterdir()) == ['data', 'meta', 'videos']
    assert not list(root.rglob('.*'))


def test_an_interrupted_data_set_of_another_recipe_is_refused(tmp_path, spec):
    DatasetWriter(tmp_path / 'data', spec, {'seed': 1})
    with pytest.raises(DatasetError, match='begun with other settings'):
        DatasetWriter(tmp_path / 'data', spec, {'seed': 2})


def test_an_existing_data_set_is_never_touched(tmp_path, spec):
    (tmp_path / 'data').mkdir()
    with pytest.raises(DatasetError, match='exists; choose another folder'):
        DatasetWriter(tmp_path / 'data', spec)


def test_an_episode_that_is_not_finished_is_dropped(tmp_path, spec):
    writer = DatasetWriter(tmp_path / 'data', spec)
    with writer.episode(0, 'dropped', signal(0, 0, 0)) as episode:
        episode.add_frame({view.name: image(view, 0) for view in spec.cameras})
    assert writer.done() == set()
    assert [path.name for path in writer.partial.rglob('*') if path.is_file()] == ['recipe.json']


def test_what_does_not_fit_is_refused_with_episode_and_frame(tmp_path, spec):
    views = {view.name: image(view, 0) for view in spec.cameras}
    row = signal(0, 0, 0)
    with DatasetWriter(tmp_path / 'data', spec).episode(7, 'wrong', row) as episode:
        with pytest.raises(DatasetError, match='episode 7: frame 0 is due before the next control period'):
            episode.add_step(row, row, row)
        with pytest.raises(DatasetError, match='episode 7: frame 0 has no image of wrist'):
            episode.add_frame({'head': views['head']})
    with (
        DatasetWriter(tmp_path / 'data', spec).episode(7, 'wrong', row) as episode,
        pytest.raises(DatasetError, match='head: frame 0 is uint8'),
    ):
        episode.add_frame(views | {'head': views['head'][:-2]})
    with DatasetWriter(tmp_path / 'data', spec).episode(7, 'wrong', row) as episode:
        episode.add_frame(views)
        with pytest.raises(DatasetError, match='frame 1 comes after 0 control periods; it is due after 4'):
            episode.add_frame(views)
        with pytest.raises(DatasetError, match='episode 7, frame 0: executed_action must be 30 finite values'):
            episode.add_step(row, np.where(np.arange(30) == 3, np.nan, row), row)
    with DatasetWriter(tmp_path / 'data', spec).episode(7, 'wrong', row) as episode:
        episode.add_frame(views)
        episode.add_step(row, row, row)
        with pytest.raises(DatasetError, match='has 1 frames and 1 control periods; 4 belong between two frames'):
            episode.finish(success=True)
