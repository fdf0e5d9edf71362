"""The expert hands the cube over with OpenArm, whatever goes wrong on the way, and the hands do not get entangled."""

from collections.abc import Iterator

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.experts import find_expert
from lingbot_va_sim.experts.expert import Expert
from lingbot_va_sim.experts.hand_over import HandOverExpert
from lingbot_va_sim.experts.motion import Pace
from lingbot_va_sim.experts.openarm import openarm_arms
from lingbot_va_sim.simulation import Simulation


@pytest.fixture(scope='module')
def simulation() -> Simulation:
    return Simulation(load_profile('openarm'), 'hand_over')


def play(simulation: Simulation, seed: int, mistake: str | None) -> Iterator[Expert]:
    """Run the expert, and yield it after each control period."""
    simulation.begin(seed)
    expert = find_expert('openarm', 'hand_over')(simulation, np.random.default_rng(seed), mistake)
    for target, _ in expert.run():
        simulation.set_targets(target)
        simulation.step()
        yield expert


def tool(simulation: Simulation, side: str) -> np.ndarray:
    """Return where the fingertips of a hand are, m in the world."""
    hand = simulation.data.body(f'openarm_{side}_ee_base_link')
    return hand.xpos + hand.xmat.reshape(3, 3) @ (0.0, 0.0, -0.15)


@pytest.mark.parametrize('seed', [0, 2])
def test_the_cube_is_handed_over(simulation, seed):
    stages, dragged = [], 0.0
    for expert in play(simulation, seed, None):
        stages.append(simulation.reward)
        if 3 in stages:  # sideways: the arms have weight
            left = tool(simulation, 'left') - expert.arms['left'].pose().position
            dragged = max(dragged, float(np.linalg.norm(left[:2])))
    assert simulation.success and [stage for stage in range(5) if stage in stages] == [0, 1, 2, 3, 4]
    assert len(stages) < 450
    assert dragged < 0.02


@pytest.mark.parametrize('mistake', HandOverExpert.MISTAKES)
def test_it_tries_again_after_a_mistake(simulation, mistake):
    stages = [simulation.reward for _ in play(simulation, 3, mistake)]
    assert simulation.success
    if mistake == 'lost':  # lifted, on the table again, lifted again
        first = stages.index(2)
        assert 0 in stages[first : first + stages[first:].index(4)]


def test_a_gripper_opens_in_the_direction_of_its_joint(simulation):
    arms = openarm_arms(simulation, simulation.robot.start_positions, Pace())
    for side, sign in (('left', 1.0), ('right', -1.0)):
        assert arms[side].gripper == pytest.approx(0.6)
        arms[side].grip(0.2)
        while arms[side].busy:
            target, _ = arms[side].step()
        assert target[-1] == pytest.approx(sign * 0.2)
        assert arms[side].gripper_target == arms[side].gripper == pytest.approx(0.2)
