"""The watchdogs of the action node at work: a robot that is lost or blocked, images that are too old."""

import numpy as np
from action_stage import MS, Stage, chunk_of, positions, ramp
from diagnostic_msgs.msg import DiagnosticStatus

from lingbot_va_msgs.msg import ActionState, DualArmCommand
from lingbot_va_ros.conversions import to_time

PARAMETERS = {
    'joint_states_timeout_s': 0.2,
    'joint_states_fault_s': 0.6,
    'tracking_error_slow': 0.05,
    'tracking_error_fault': 0.15,
    'max_observation_age_s': 1.2,
}


def move(stage: Stage, speed: float = 0.5, frames: int = 3) -> None:
    stage.begin()
    stage.send(chunk_of(ramp(speed, frames, begin=positions(stage.commands[-1:])[0])))
    stage.wait_for_state(ActionState.MOVING)


def test_lost_joint_states_pause_the_motion_and_then_latch_a_fault(stage: Stage) -> None:
    move(stage, speed=0.2)
    stage.measured, before = None, stage.measured
    assert 'joint states have stopped' in stage.wait_for_state(ActionState.PAUSED).reason
    assert 'joint states have stopped' in stage.wait_for_state(ActionState.FAULT).reason
    held = positions(stage.wait_for_commands(10))[5:]
    np.testing.assert_array_equal(held, np.tile(held[0], (len(held), 1)))
    stage.graph.wait_for(lambda: stage.health().level == DiagnosticStatus.ERROR, what='the error')
    assert not stage.reset().success
    stage.measured = before
    stage.graph.wait_for(lambda: stage.reset().success, what='the reset')
    stage.wait_for_state(ActionState.HOLDING)


def test_joint_states_that_come_back_in_time_let_the_motion_go_on(stage: Stage) -> None:
    move(stage, speed=0.2, frames=2)
    stage.measured, before = None, stage.measured
    stage.wait_for_state(ActionState.PAUSED)
    stage.measured = before
    stage.wait_for_state(ActionState.MOVING)
    stage.graph.wait_for(lambda: len(stage.executed) == 2, what='the whole motion')


def test_a_blocked_joint_slows_the_motion_down_and_latches_a_fault_before_it_goes_far(stage: Stage) -> None:
    move(stage, speed=0.6)
    stage.follows = False  # stuck where it is
    stage.wait_for_state(ActionState.FAULT)
    assert 'does not follow' in stage.states[-1].reason
    assert any(0 < state.speed < 1 for state in stage.states), 'it slowed down first'
    stage.wait_for_commands(10)
    assert abs(positions(stage.commands[-1:])[0] - stage.measured)[0] < 0.15 + 0.6 * 0.2 + 0.05


def test_motion_from_old_images_ends(stage: Stage) -> None:
    stage.begin()
    chunk = chunk_of(ramp(0.2, 4))
    chunk.observation_stamps = [to_time(stage.now() - 700 * MS)]
    stage.send(chunk)
    stage.wait_for_state(ActionState.MOVING)
    stage.wait_for_state(ActionState.HOLDING)
    stage.graph.wait_for(lambda: int(stage.health().observation_age_trips) > 0, what='the count')
    assert 1 <= len(stage.executed) < 4


def test_a_chunk_from_images_that_are_too_old_already_is_refused(stage: Stage) -> None:
    stage.begin()
    begin = len(stage.commands)
    chunk = chunk_of(ramp(0.2, 1))
    chunk.observation_stamps = [to_time(stage.now() - 1300 * MS)]
    stage.send(chunk)
    stage.graph.wait_for(lambda: 'max_observation_age_s is 1.2' in stage.health().message, what='the refusal')
    assert {command.action_index for command in stage.commands[begin:]} == {DualArmCommand.HOLD}


def test_arms_whose_joint_states_drift_apart_pause(stage: Stage) -> None:
    move(stage)
    stage.lag_ns = 400 * MS
    try:
        assert 'lag behind' in stage.wait_for_state(ActionState.PAUSED).reason
    finally:
        stage.lag_ns = 0
    stage.wait_for_state(ActionState.MOVING)
