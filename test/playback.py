"""A demonstration played back in simulation."""

import numpy as np

from lingbot_va_sim.demonstrations import Demonstration
from lingbot_va_sim.simulation import Simulation


def assert_played_back(simulation: Simulation, demonstration: Demonstration) -> None:
    """The commands give the same states again, to the bit, and solve the task; begin at its start."""
    for executed, state in zip(demonstration.executed, demonstration.states[1:], strict=True):
        simulation.set_targets(executed)
        simulation.step()
        assert np.array_equal(simulation.joint_positions, state)
    assert simulation.success
