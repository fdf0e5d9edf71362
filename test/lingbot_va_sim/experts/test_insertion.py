"""The expert puts the peg into the socket, also after it has missed the peg on purpose."""

import numpy as np
import pytest

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.experts.expert import Expert
from lingbot_va_sim.experts.insertion import InsertionExpert
from lingbot_va_sim.simulation import Simulation


@pytest.mark.parametrize(('seed', 'mistake'), [(0, None), (2, None), (3, None), (3, 'high'), (3, 'short')])
def test_the_peg_reaches_the_pin(seed, mistake):
    simulation = Simulation(load_profile('aloha'), 'insertion', seed)
    for _ in range(20):
        simulation.step()
    stages = []
    for target, _ in InsertionExpert(simulation, np.random.default_rng(seed), mistake).run():
        simulation.set_targets(target)
        simulation.step()
        stages.append(simulation.reward)
    assert simulation.success
    assert stages.index(2) < stages.index(4)  # both were lifted before


def test_scripts_go_on_together_until_the_last_one_is_over():
    done = []

    def script(name, periods):
        for _ in range(periods):
            yield
        done.append(name)

    assert sum(1 for _ in Expert.together(script('long', 5), script('short', 2))) == 5
    assert done == ['short', 'long']
