"""Starts are drawn from the published ranges, and every published stage is rewarded."""

import warnings
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.simulation import Simulation
from lingbot_va_sim.tasks import LEFT_FINGER, RIGHT_FINGER, find_task

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # gym-aloha looks for a display
    from gym_aloha.tasks import sim as published
    from gym_aloha.utils import sample_box_pose, sample_insertion_pose

AWAY = (0.0, 0.9, 0.3)
PUBLISHED = {'transfer_cube': published.TransferCubeTask, 'insertion': published.InsertionTask}


@pytest.fixture(scope='module', params=list(PUBLISHED))
def any_task(request: pytest.FixtureRequest) -> Simulation:
    return Simulation(load_profile('aloha'), request.param)


@pytest.fixture(scope='module')
def cube() -> Simulation:
    return Simulation(load_profile('aloha'), 'transfer_cube')


@pytest.fixture(scope='module')
def insertion() -> Simulation:
    return Simulation(load_profile('aloha'), 'insertion')


def place(simulation: Simulation, **positions: tuple) -> int:
    """Put objects somewhere, by the prefix of their joint, and return the stage that is reached then."""
    for prefix, position in positions.items():
        joint = next(item.joint for item in simulation.task.objects if item.joint.startswith(prefix))
        simulation.data.joint(joint).qpos[:3] = position
    mujoco.mj_forward(simulation.robot.model, simulation.data)
    simulation._judge()
    names = SimpleNamespace(id2name=lambda index, kind: simulation.robot.model.geom(index).name)
    physics = SimpleNamespace(data=simulation.data, model=names)
    assert simulation.reward == PUBLISHED[simulation.task.name]().get_reward(physics)
    return simulation.reward


def fingertip(simulation: Simulation, name: str) -> np.ndarray:
    """Return a point near the end of a finger, towards the middle of the table."""
    geom = simulation.data.geom(name)
    along = geom.xmat.reshape(3, 3)[:, 2]  # the finger's long axis
    return geom.xpos - np.sign(geom.xpos[0] * along[0]) * 0.045 * along


def lower_arm(simulation: Simulation, side: str) -> np.ndarray:
    """Bend an arm until its fingertip is just above the table; return where an object lies that it touches."""
    model, data = simulation.robot.model, simulation.data
    name = {'left': LEFT_FINGER, 'right': RIGHT_FINGER}[side]
    for _ in range(200):
        mujoco.mj_forward(model, data)
        tip = fingertip(simulation, name)
        if tip[2] < 0.03:
            return tip[:2]
        data.joint(f'vx300s_{side}/shoulder').qpos[0] += 0.01
    raise AssertionError('the fingers did not come down')


def test_start_is_that_of_gym_aloha_for_the_same_seed() -> None:
    for seed in (0, 7, 123456):
        cube = Simulation(load_profile('aloha'), 'transfer_cube', seed)
        assert np.array_equal(cube.data.qpos[16:], sample_box_pose(seed))
        insertion = Simulation(load_profile('aloha'), 'insertion', seed)
        assert np.array_equal(insertion.data.qpos[16:], np.concatenate(sample_insertion_pose(seed)))


def test_starts_lie_in_their_ranges_and_repeat_by_seed(any_task: Simulation) -> None:
    starts = {}
    for seed in range(40):
        any_task.reset(seed)
        for item in any_task.task.objects:
            position = any_task.data.joint(item.joint).qpos[:3]
            assert (position >= item.low).all() and (position <= item.high).all()
        starts[seed] = any_task.data.qpos.copy()
    assert len({start.tobytes() for start in starts.values()}) == 40
    any_task.step()
    any_task.reset(11)
    assert np.array_equal(any_task.data.qpos, starts[11])
    assert any_task.reward == 0


def test_unknown_task_and_bad_seed_are_refused(cube: Simulation) -> None:
    with pytest.raises(SimulationError, match="task 'juggle' is unknown; choose one of transfer_cube, insertion"):
        find_task('juggle')
    for seed in (-1, 2**32):
        with pytest.raises(SimulationError, match=f'seed is {seed}; it must be from 0 to'):
            cube.reset(seed)


def test_transfer_cube_rewards_each_stage(cube: Simulation) -> None:
    cube.reset(0)
    assert place(cube, red=(0.1, 0.5, 0.02)) == 0  # lies on the table
    assert place(cube, red=fingertip(cube, RIGHT_FINGER)) == 2
    where = lower_arm(cube, 'right')
    assert place(cube, red=(*where, 0.0199)) == 1
    assert not cube.succeeded

    cube.reset(0)
    where = lower_arm(cube, 'left')
    assert place(cube, red=(*where, 0.0199)) == 3
    cube.reset(0)
    assert place(cube, red=fingertip(cube, LEFT_FINGER)) == 4
    assert cube.success and cube.succeeded
    assert place(cube, red=AWAY) == 0
    assert not cube.success and cube.succeeded
    cube.reset(1)
    assert not cube.succeeded


def test_insertion_rewards_each_stage(insertion: Simulation) -> None:
    insertion.reset(0)
    right, left = fingertip(insertion, RIGHT_FINGER), fingertip(insertion, LEFT_FINGER)
    assert place(insertion, red=AWAY, blue=left) == 0
    wall = left + np.array([0, 0.02, 0])
    assert place(insertion, red=right, blue=wall) == 2
    assert place(insertion, red=(0, 0.609, 0.3), blue=(-0.11, 0.6, 0.3)) == 3
    assert place(insertion, red=(0, 0.6, 0.3), blue=(-0.11, 0.6, 0.3)) == 0  # clear of walls and pin
    assert place(insertion, red=(0, 0.6, 0.3), blue=(-0.095, 0.6, 0.3)) == 4

    insertion.reset(0)
    where = lower_arm(insertion, 'right')
    assert place(insertion, red=(*where, 0.0099), blue=wall) == 1
