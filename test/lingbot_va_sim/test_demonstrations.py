"""A demonstration has the instants, the commands and the dynamics of the running robot."""

from dataclasses import replace

import numpy as np
import pytest
from playback import assert_played_back

from lingbot_va_core.robot import load_profile
from lingbot_va_sim.demonstrations import command_filter, demonstrate, universal
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.experts.expert import Expert, ExpertError
from lingbot_va_sim.experts.transfer_cube import TransferCubeExpert
from lingbot_va_sim.simulation import Simulation


@pytest.fixture(scope='module')
def simulation() -> Simulation:
    return Simulation(load_profile('aloha'), 'transfer_cube')


@pytest.fixture(scope='module')
def demonstration(simulation):
    return demonstrate(simulation, TransferCubeExpert, 2)  # with a mistake


def test_the_same_seed_gives_the_same_demonstration_whatever_was_before(simulation, demonstration):
    demonstrate(simulation, TransferCubeExpert, 5)
    again = demonstrate(simulation, TransferCubeExpert, 2)
    for name in ('labels', 'executed', 'states'):
        assert np.array_equal(getattr(again, name), getattr(demonstration, name)), name
    assert again.attributes == demonstration.attributes


def test_frames_and_actions_make_whole_latent_frames(simulation, demonstration):
    steps = len(demonstration.labels)
    assert steps % 16 == 0 and len(demonstration.executed) == steps and len(demonstration.states) == steps + 1
    stamps = [snapshot.time_ns for snapshot in demonstration.snapshots]
    assert len(stamps) == steps // 4 + 1
    assert set(np.diff(stamps)) == {simulation.profile.clock.video_ns}


def test_the_commands_played_back_give_the_same_states(simulation, demonstration):
    simulation.reset(2)
    for _ in range(10):
        simulation.step()
    simulation.set_targets(simulation.joint_positions)
    for _ in range(10):
        simulation.step()
    assert np.array_equal(simulation.joint_positions, demonstration.states[0])
    assert_played_back(simulation, demonstration)


def test_commands_keep_the_limits_of_the_profile(simulation, demonstration):
    executed = np.array(demonstration.executed)
    velocity = np.diff(executed, axis=0) / 0.02
    assert (np.abs(velocity) <= simulation.profile.limits('velocity') + 1e-9).all()
    assert (np.abs(np.diff(velocity, axis=0)) / 0.02 <= simulation.profile.limits('acceleration') + 1e-6).all()


def test_labels_differ_from_commands_by_noise_alone_outside_of_mistakes(simulation):
    noisy = next(
        d
        for d in (demonstrate(simulation, TransferCubeExpert, seed) for seed in range(10, 40))
        if d.attributes['noise_rad'] and not d.attributes['mistake']
    )
    grippers = [i for i, joint in enumerate(simulation.profile.joints) if 'gripper' in joint.name]
    difference = np.abs(np.array(noisy.labels) - noisy.executed)
    assert difference[:, grippers].max() < 1e-3
    assert 0 < difference.max() < 6 * noisy.attributes['noise_rad']


def test_mistakes_are_noted_with_the_steps_in_which_the_label_is_another(demonstration):
    assert demonstration.attributes['mistake'] == 'high'
    ((first, last),) = demonstration.attributes['mistakes']
    difference = np.abs(np.array(demonstration.labels) - demonstration.executed).max(axis=1)
    noise = demonstration.attributes['noise_rad']
    assert difference[first:last].max() > 0.05 and difference[:first].max() <= 6 * noise + 1e-6


def test_a_hand_that_is_led_beside_the_cube_comes_down_to_it_by_right_labels(simulation):
    demonstration = demonstrate(simulation, TransferCubeExpert, 8, mistake='beside')
    ((first, last),) = demonstration.attributes['mistakes']
    difference = np.abs(np.array(demonstration.labels) - demonstration.executed).max(axis=1)
    noise = demonstration.attributes['noise_rad']
    assert demonstration.attributes['mistake'] == 'beside' and first < 40
    assert difference[:last].max() > 6 * noise + 0.02 and difference[last:].max() <= 6 * noise + 1e-6
    gripper = [joint.name for joint in simulation.profile.joints].index('right_gripper')
    assert np.array(demonstration.executed)[last, gripper] > 0.05  # it has yet to come down


def test_an_expert_overcomes_a_missed_grasp_from_when_it_can_be_seen(simulation):
    disturbed = (demonstrate(simulation, TransferCubeExpert, seed, disturbance='grasp') for seed in range(12, 30))
    demonstration = next(each for each in disturbed if not each.attributes['mistake'])
    assert demonstration.attributes['disturbance'] == 'grasp' and simulation.success
    (struck,) = demonstration.attributes['mistakes']
    assert struck[0] == 0 and struck[1] > 50
    gripper = [joint.name for joint in simulation.profile.joints].index('right_gripper')
    opening = np.array(demonstration.executed)[:, gripper]
    opened = struck[1] + int(np.argmax(opening[struck[1] :] > TransferCubeExpert.OPENED))
    assert opened - struck[1] > 25  # not before half a second, in which the reason can be seen
    held = opening[struck[1]]
    assert held < 0.03 and opening[opened:].min() < held + 0.005  # it closes once more


def test_an_expert_that_never_succeeds_is_given_up_with_the_reason(simulation):
    class Helpless(Expert):
        def script(self):
            raise ExpertError('no idea')
            yield

    with pytest.raises(SimulationError, match='no demonstration from seed 7 in 20 tries; the last one: no idea'):
        demonstrate(simulation, Helpless, 7)


def test_joint_vectors_go_to_the_channels_of_the_profile(simulation):
    joints = np.arange(1.0, 15.0)
    assert np.array_equal(universal(simulation.profile, joints), simulation.profile.to_universal(joints))


def test_the_filter_has_the_limits_of_profile_and_description(simulation):
    profile = simulation.profile
    left, right = profile.arms
    wide = replace(left, joints=tuple(replace(joint, lower=-9.0, upper=9.0) for joint in left.joints))
    command = command_filter(replace(profile, arms=(wide, right)))
    command.reset(simulation.robot.start_positions)
    for _ in range(500):
        command.step(np.full(14, 8.0), np.zeros(14))
    known = [i for i, joint in enumerate(profile.joints) if joint.name != 'left_gripper']  # not in the description
    expected = profile.limits('upper') - profile.limits('margin')
    assert np.allclose(command.position[known], expected[known])
