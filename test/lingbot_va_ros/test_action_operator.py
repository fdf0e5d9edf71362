"""What the operator can do while the arms move: stop them, enable them, slow them down, and let them go on."""

import time

import numpy as np
import pytest
from action_bench import action_bench
from action_stage import CLOCK, HOME, Stage, chunk_of, motion, positions, ramp
from rclpy.qos import QoSProfile

from lingbot_va_msgs.msg import ActionState, DualArmCommand
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import to_ns

DT = CLOCK.action_ns * 1e-9
ACCELERATION = 20.0


def speeds(commands: list[DualArmCommand]) -> np.ndarray:
    """Speed of the left waist, rad/s, in every control period."""
    return motion(commands)[0][:, 0]


def brakes_gently(commands: list[DualArmCommand]) -> bool:
    """Whether the left waist's acceleration stays within its limit."""
    return abs(motion(commands)[1][:, 0]).max() <= ACCELERATION * 1.01


def move(stage: Stage, speed: float = 0.8, frames: int = 3) -> None:
    """Start an episode, and a motion that is under way when this returns."""
    stage.begin()
    stage.send(chunk_of(ramp(speed, frames, begin=positions(stage.commands[-1:])[0])))
    stage.wait_for_state(ActionState.MOVING)
    stage.wait_for_commands(8)


@pytest.mark.parametrize('profile', [qos.OPERATOR, qos.LATCHED], ids=['volatile', 'transient local'])
def test_an_emergency_stop_brakes_within_the_limits_and_stays_until_reset(stage: Stage, profile: QoSProfile) -> None:
    move(stage)
    begin = len(stage.commands) - 1
    stage.say('e_stop', True, profile)
    assert 'e_stop' in stage.wait_for_state(ActionState.E_STOPPED).reason
    stage.wait_for_commands(15)
    assert brakes_gently(stage.commands[begin:])
    assert abs(speeds(stage.commands[begin:])[-5:]).max() == 0
    refused = stage.reset()
    assert (refused.success, refused.message) == (False, 'e_stop is still true; release it first')
    stage.say('e_stop', False, profile)
    held = positions(stage.wait_for_commands(10))
    assert stage.states[-1].state == ActionState.E_STOPPED, 'released is not cleared'
    np.testing.assert_array_equal(held, np.tile(held[0], (len(held), 1)))
    stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    stage.wait_for_state(ActionState.HOLDING)
    assert stage.executed == []


def test_a_press_that_is_released_at_once_is_an_emergency_stop(stage: Stage) -> None:
    stage.say('e_stop', False, qos.PRESSES)  # so that the publisher is known
    for _ in range(20):
        stage.say('e_stop', True, qos.PRESSES)
        stage.say('e_stop', False, qos.PRESSES)
        stage.wait_for_state(ActionState.E_STOPPED)
        stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
        stage.wait_for_state(ActionState.HOLDING)


def test_after_a_stop_nothing_of_that_episode_moves_the_arms_again_but_the_next_one_does(stage: Stage) -> None:
    move(stage)
    stage.say('e_stop', True)
    stage.wait_for_state(ActionState.E_STOPPED)
    stage.say('e_stop', False)
    stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    stage.send(chunk_of(ramp(0.5, 1), index=4, number=1))
    stage.graph.wait_for(lambda: 'came after a stop' in stage.health().message, what='the refusal')
    assert {command.action_index for command in stage.wait_for_commands(20)} == {DualArmCommand.HOLD}
    move(stage, speed=0.2, frames=1)
    stage.graph.wait_for(lambda: stage.executed, what='a latent frame of the next episode')


def test_a_stopped_task_stays_stopped_in_its_next_episode_but_another_task_moves() -> None:
    with action_bench() as bench:
        for task, moves in ((1, True), (1, False), (2, True)):
            chunk = chunk_of(ramp(0.5, 2))
            chunk.episode = bench.begin(task)
            bench.send(chunk, bench.now_ns)
            bench.tick()
            bench.tick()
            assert bench.node._planner.at_rest != moves
            for pressed in (True, False):
                bench.node._arming.on_e_stop(pressed)
                for _ in range(10):
                    bench.tick()
            assert bench.reset().success
            bench.tick()


def test_a_reset_starts_from_where_the_robot_is_measured_then(stage: Stage) -> None:
    stage.begin()
    stage.say('e_stop', True)
    stage.wait_for_state(ActionState.E_STOPPED)
    stage.follows = False
    stage.measured = elsewhere = HOME + 0.1  # somebody has moved the arms out of the way
    stage.say('e_stop', False)
    stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    stage.graph.wait_for(
        lambda: np.allclose(positions(stage.commands[-1:])[0][:6], elsewhere[:6], atol=1e-3), what='the new start'
    )
    stage.follows = True


def test_a_reset_is_refused_while_joint_states_are_lost(stage: Stage) -> None:
    stage.say('e_stop', True)
    stage.wait_for_state(ActionState.E_STOPPED)
    stage.say('e_stop', False)
    stage.measured, before = None, stage.measured
    stage.graph.wait_for(lambda: 'joint states' in stage.reset().message, what='the refusal')
    stage.measured = before
    stage.graph.wait_for(lambda: stage.reset().success, what='the reset')


def test_without_a_stop_a_reset_changes_nothing(stage: Stage) -> None:
    move(stage, frames=1)
    answer = stage.reset()
    assert (answer.success, answer.message) == (True, 'nothing was latched')
    stage.graph.wait_for(lambda: stage.executed, what='the end of the motion')


def test_the_speed_scale_stretches_the_motion_and_the_instants_of_the_images(stage: Stage) -> None:
    stage.say('speed_scale', 0.5)
    stage.graph.wait_for(lambda: stage.states[-1].speed == 0.5, what='half the speed')
    move(stage, speed=0.8, frames=1)
    assert speeds(stage.commands[-5:]).mean() == pytest.approx(0.4, abs=0.1)
    stage.graph.wait_for(lambda: stage.executed, what='the latent frame')
    stamps = [to_ns(stamp) for stamp in stage.executed[0].video_stamps]
    assert min(np.diff(stamps)) >= 1.95 * CLOCK.video_ns
    stage.say('speed_scale', 1.0)
    stage.graph.wait_for(lambda: stage.states[-1].speed == 1.0, what='full speed')


def test_paused_by_the_speed_scale_the_motion_goes_on_from_there(stage: Stage) -> None:
    move(stage, speed=0.8, frames=2)
    begin = len(stage.commands) - 1
    stage.say('speed_scale', 0.0)
    assert stage.wait_for_state(ActionState.PAUSED).reason == 'speed_scale is 0'
    stage.wait_for_commands(20)
    paused = len(stage.commands)
    assert abs(speeds(stage.commands[begin:])[-5:]).max() == 0
    assert stage.commands[-1].action_index == DualArmCommand.HOLD
    assert len(stage.executed) <= 1
    stage.say('speed_scale', 1.0)
    stage.wait_for_state(ActionState.MOVING)
    stage.graph.wait_for(lambda: len(stage.executed) == 2, what='the rest of the motion')
    assert speeds(stage.commands[begin:]).min() >= -1e-4, 'the arm never steps back'
    assert brakes_gently(stage.commands[begin:])
    assert sum(executed.held for executed in stage.executed) > 0
    last = positions(stage.commands[-1:])[0][0]
    assert last > positions(stage.commands[paused - 1 : paused])[0][0]


@pytest.mark.parametrize('scale', [-0.5, 1.5, float('nan')])
def test_a_speed_scale_that_is_no_share_is_ignored(stage: Stage, scale: float) -> None:
    states = len(stage.states)
    stage.say('speed_scale', scale)
    stage.wait_for_commands(10)
    assert {state.speed for state in stage.states[states - 1 :]} == {1.0}


def test_an_emergency_stop_takes_effect_within_two_control_periods_of_its_arrival(stage: Stage) -> None:
    """From publishing to the first command that brakes; the best of a few, since this machine may be busy."""
    delays = []
    for _ in range(3):
        move(stage)
        pressed = time.time_ns()
        stage.say('e_stop', True)
        state = stage.wait_for_state(ActionState.E_STOPPED)
        delays.append(to_ns(state.header.stamp) - pressed)
        stage.say('e_stop', False)
        stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    assert min(delays) < 2 * CLOCK.action_ns
