"""A policy drives, an expert takes over: the demonstration is of what really happened, and only the expert teaches."""

import numpy as np
import pytest
from playback import assert_played_back

from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot import load_profile
from lingbot_va_sim import demonstrations
from lingbot_va_sim.collect import Plan
from lingbot_va_sim.demonstrations import Demonstration, demonstrate
from lingbot_va_sim.experts.expert import ExpertError
from lingbot_va_sim.experts.transfer_cube import TransferCubeExpert
from lingbot_va_sim.policy_driver import PolicyDriver
from lingbot_va_sim.simulation import Simulation

CHECKPOINT = str(share_dir() / 'checkpoints' / 'tiny')


@pytest.fixture(scope='module')
def simulation() -> Simulation:
    return Simulation(load_profile('aloha'), 'transfer_cube')


@pytest.fixture(scope='module')
def driver(simulation: Simulation) -> PolicyDriver:
    return PolicyDriver(CHECKPOINT, simulation, simulation.camera_rig())


def test_what_the_policy_did_is_history_and_what_the_expert_did_after_it_is_to_be_learned(
    simulation, driver, monkeypatch
):
    monkeypatch.setattr(demonstrations, 'DRIVEN_FRAMES', (4, 5))
    demonstration = demonstrate(simulation, TransferCubeExpert, 2, driver)
    steps, notes = len(demonstration.labels), demonstration.attributes
    (mistakes,) = notes['mistakes']
    assert notes['mistake'] == 'policy' and mistakes[0] == 0 and 4 * 16 <= mistakes[1] <= 7 * 16 < steps - 100
    assert steps % 16 == 0 == mistakes[1] % 16
    assert len(demonstration.states) == steps + 1 and len(demonstration.snapshots) == steps // 4 + 1
    driven = np.array(demonstration.executed[: mistakes[1]])
    assert np.ptp(driven, axis=0).max() > 0.1, 'the policy moved nothing'
    assert np.array_equal(driven[-1], driven[-2]), 'the expert begins at rest'
    velocity = np.diff(np.array(demonstration.executed), axis=0) / 0.02
    assert (np.abs(velocity) <= simulation.profile.limits('velocity') + 1e-9).all()
    simulation.begin(2)
    assert_played_back(simulation, demonstration)


def test_the_same_seed_gives_the_same_correction(simulation, driver):
    first, again = (Demonstration(), Demonstration())
    driver.drive(first, 3, 2)
    driver.drive(Demonstration(), 4, 2)
    driver.drive(again, 3, 2)
    assert len(first.executed) >= 32
    assert np.array_equal(first.executed, again.executed) and np.array_equal(first.states, again.states)


def test_where_the_policy_succeeds_by_itself_nothing_is_to_be_corrected(simulation, driver, monkeypatch):
    begin = simulation.begin

    def solved(seed: int) -> np.ndarray:
        start = begin(seed)
        simulation.succeeded = True
        return start

    monkeypatch.setattr(simulation, 'begin', solved)
    with pytest.raises(ExpertError, match='needed no help'):
        driver.drive(Demonstration(), 3, 1)


def test_a_data_set_of_other_corrections_is_not_gone_on_with(tmp_path):
    Plan('aloha', 'transfer_cube', 0, tmp_path / 'set', CHECKPOINT).writer()
    with pytest.raises(ValueError, match='begun with other settings'):
        Plan('aloha', 'transfer_cube', 0, tmp_path / 'set').writer()
