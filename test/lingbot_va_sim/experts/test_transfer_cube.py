"""The expert hands the cube over from any start, whatever goes wrong on the way."""

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.experts import find_expert
from lingbot_va_sim.experts.transfer_cube import TransferCubeExpert
from lingbot_va_sim.simulation import Simulation


@pytest.fixture(scope='module')
def simulation() -> Simulation:
    return Simulation(load_profile('aloha'), 'transfer_cube')


def play(simulation: Simulation, seed: int, mistake: str | None) -> list[int]:
    """Run the expert; return the stages of reward."""
    simulation.reset(seed)
    for _ in range(20):
        simulation.step()
    stages = []
    for target, _ in TransferCubeExpert(simulation, np.random.default_rng(seed), mistake).run():
        simulation.set_targets(target)
        simulation.step()
        stages.append(simulation.reward)
    return stages


@pytest.mark.parametrize('seed', range(6))
def test_the_cube_is_handed_over(simulation, seed):
    stages = play(simulation, seed, None)
    assert simulation.success and set(stages) >= {0, 2, 4}
    assert len(stages) < 500


@pytest.mark.parametrize('mistake', TransferCubeExpert.MISTAKES)
def test_it_tries_again_after_a_mistake(simulation, mistake):
    stages = play(simulation, 3, mistake)
    assert simulation.success
    if mistake == 'lost':  # lifted, on the table again, lifted again
        first = stages.index(2)
        assert 0 in stages[first : first + stages[first:].index(4)]


def test_two_demonstrations_from_one_start_differ(simulation):
    lengths = set()
    for seed in range(3):
        simulation.reset(0)
        expert = TransferCubeExpert(simulation, np.random.default_rng(seed))
        arm = expert.arms['left']
        expert._ready(arm)
        while arm.busy:
            arm.step()
        lengths.add(arm.pose().position)
    assert len(lengths) == 3


def test_a_task_without_an_expert_is_named_with_those_that_have_one():
    with pytest.raises(SimulationError, match=r'no scripted expert for juggling of aloha; .*transfer_cube of aloha'):
        find_expert('aloha', 'juggling')
