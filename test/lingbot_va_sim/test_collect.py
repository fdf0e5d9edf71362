"""Collecting: each episode depends on its seed alone, and the data set is what the lerobot library reads."""

import numpy as np
import pytest
import yaml
from lerobot_library import assert_lerobot_agrees

from lingbot_va_core.datasets.checks import check
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.framing import framed
from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot import load_profile
from lingbot_va_sim.collect import Plan, collect
from lingbot_va_sim.contact_sheet import contact_sheet
from lingbot_va_sim.demonstrations import demonstrate, universal
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.experts.transfer_cube import TransferCubeExpert
from lingbot_va_sim.simulation import Simulation


@pytest.fixture(scope='module')
def robot(tmp_path_factory: pytest.TempPathFactory) -> str:
    """ALOHA with small cameras, one of which is cropped."""
    profile = yaml.safe_load((share_dir() / 'config' / 'robots' / 'aloha.yaml').read_text())
    for camera in profile['cameras'].values():
        camera |= {'width': 48, 'height': 32}
    profile['cameras']['cam_left_wrist'] |= {'crop': [8, 0, 32, 32], 'resize': [24, 24]}
    path = tmp_path_factory.mktemp('robot') / 'aloha.yaml'
    path.write_text(yaml.safe_dump(profile, sort_keys=False))
    return str(path)


@pytest.fixture(scope='module')
def dataset(robot: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    plan = Plan(robot, 'transfer_cube', 40, tmp_path_factory.mktemp('data') / 'set')
    made = list(collect(plan, 2, workers=2))
    assert sorted(episode.index for episode in made) == [0, 1]
    return Dataset(plan.writer().finish(2))


def test_an_episode_is_the_demonstration_of_its_seed(robot, dataset):
    check(dataset)
    profile = load_profile(robot)
    with Simulation(profile, 'transfer_cube') as simulation:
        demonstration = demonstrate(simulation, TransferCubeExpert, 41)
        with simulation.camera_rig() as rig:
            picture = rig.render('cam_left_wrist', demonstration.snapshots[30])
    episode = dataset[1]
    assert np.array_equal(episode.actions, universal(profile, np.array(demonstration.labels)))
    assert np.array_equal(episode.executed, universal(profile, np.array(demonstration.executed)))
    assert np.array_equal(episode.states, universal(profile, np.array(demonstration.states)))
    shown = episode.images('cam_left_wrist', 30, 31)[0]
    assert shown.shape == (24, 24, 3)
    assert np.abs(shown.astype(int) - framed(profile.cameras[1], picture)).mean() < 3
    assert episode.success and episode.instruction.startswith('Pick up the red cube')
    assert episode.attributes == demonstration.attributes


def test_what_is_there_is_not_made_again(robot, dataset, tmp_path):
    plan = Plan(robot, 'transfer_cube', 40, tmp_path / 'set')
    list(collect(plan, 1, workers=1))
    staged = next((tmp_path / 'set.partial' / 'staged').glob('*.parquet'))
    before = staged.stat().st_mtime_ns
    assert list(collect(plan, 1, workers=1)) == []
    assert staged.stat().st_mtime_ns == before
    (own,) = Dataset(plan.writer().finish(1))
    assert np.array_equal(own.actions, dataset[0].actions)


def test_the_contact_sheet_has_a_row_for_each_episode(dataset):
    sheet = contact_sheet(dataset)
    assert sheet.height == 2 * (144 * 32 // 48 + 2)
    assert np.array(sheet).std() > 10


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'seed': -1}, 'seed is -1; it must be from 0'),
        ({'task': 'juggling'}, "task 'juggling' is unknown"),
        ({'robot': 'nobody'}, "robot 'nobody' is unknown"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_leaves_no_folder(tmp_path, change, problem):
    arguments = {'robot': 'aloha', 'task': 'transfer_cube', 'seed': 0, 'out': tmp_path / 'set'} | change
    with pytest.raises(ValueError, match=problem):
        Plan(**arguments).writer()
    assert list(tmp_path.iterdir()) == []


def test_more_episodes_than_seeds_are_refused(tmp_path):
    with pytest.raises(SimulationError, match='3 episodes from seed 4294967294 on; give 1 to 2'):
        list(collect(Plan('aloha', 'transfer_cube', 2**32 - 2, tmp_path / 'set'), 3, workers=1))


def test_the_lerobot_library_reads_it(dataset):
    assert_lerobot_agrees(dataset)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'mistake': 'late'}, "'late' is no mistake of the expert for transfer_cube; it knows high, short"),
        ({'mistake': 'high', 'policy': 'folder'}, 'leave out one of the two'),
        ({'disturbance': 'rain'}, "the disturbance is 'rain'; choose one of reach, grasp, tool"),
        ({'disturbance': 'reach', 'policy': 'folder'}, 'leave out one of the two'),
    ],
)
def test_a_mistake_or_a_disturbance_that_cannot_be_made_is_refused(robot, tmp_path, changes, message):
    with pytest.raises(SimulationError, match=message):
        Plan(robot, 'transfer_cube', 0, tmp_path / 'set', **changes).writer()
