"""How the action node starts: from what is measured, or not at all."""

import numpy as np
import pytest
from action_bench import configured
from action_stage import ACTION, HOME, PROFILE, Stage, positions
from rclpy.lifecycle import TransitionCallbackReturn
from support import Graph

from lingbot_va_msgs.msg import ActionState, DualArmCommand
from lingbot_va_ros.bringup import Bringup

NAMES = [joint.name for joint in PROFILE.joints]


def test_it_commands_nothing_until_every_joint_is_measured_and_then_holds_what_it_measured(graph: Graph) -> None:
    stage = Stage(graph)
    stage.measured = None
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        graph.wait_for(lambda: stage.diagnostics and 'never came' in stage.health().message, what='the diagnostic')
        assert 'never came' in stage.wait_for_state(ActionState.HOLDING).reason
        stage.names, stage.measured = NAMES[:-1], HOME + 0.1 * (PROFILE.limits('upper') - HOME)
        start = stage.measured.copy()
        graph.wait_for(lambda: 'no position of right_gripper' in stage.health().message, what='the name of the joint')
        assert stage.commands == []
        assert stage.trajectories == []
        stage.names = NAMES
        graph.wait_for(lambda: len(stage.commands) >= 20, what='commands once the robot is there')
    np.testing.assert_allclose(positions(stage.commands), np.tile(start, (len(stage.commands), 1)), atol=1e-6)
    assert {command.action_index for command in stage.commands} == {DualArmCommand.HOLD}


@pytest.mark.parametrize(
    ('parameter', 'words'),
    [
        ('window_points:=5', 'window_points is 5, but a stop from full speed takes 8'),
        ('joint_states_fault_s:=0.4', 'joint_states_timeout_s is 0.5 and joint_states_fault_s is 0.4'),
    ],
)
def test_parameters_that_contradict_the_robot_or_each_other_are_refused(
    parameter: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert configured(parameter) == TransitionCallbackReturn.FAILURE
    assert words in capfd.readouterr().err
