"""How the action node starts: from what is measured, or not at all."""

import numpy as np
import pytest
from action_stage import ACTION, HOME, PROFILE, Stage, positions
from support import Graph

from lingbot_va_msgs.msg import ActionState, DualArmCommand
from lingbot_va_ros.bringup import Bringup, BringupError

NAMES = [joint.name for joint in PROFILE.joints]


def test_it_holds_what_it_measured_until_a_chunk_comes(graph: Graph) -> None:
    stage = Stage(graph)
    stage.measured = HOME + 0.1 * (PROFILE.limits('upper') - HOME)
    start = stage.measured.copy()
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        graph.wait_for(lambda: len(stage.commands) >= 20)
    np.testing.assert_allclose(positions(stage.commands), np.tile(start, (len(stage.commands), 1)), atol=1e-6)
    assert {command.action_index for command in stage.commands} == {DualArmCommand.HOLD}


def test_without_joint_states_it_commands_nothing_and_says_which_are_missing(graph: Graph) -> None:
    stage = Stage(graph)
    stage.measured = None
    with Bringup(ACTION, {'robot': 'aloha'}, log=lambda line: None):
        graph.wait_for(lambda: stage.diagnostics and 'never came' in stage.health().message, what='the diagnostic')
        assert 'never came' in stage.wait_for_state(ActionState.HOLDING).reason
        stage.names, stage.measured = NAMES[:-1], HOME
        graph.wait_for(lambda: 'no position of right_gripper' in stage.health().message, what='the name of the joint')
        assert stage.commands == []
        assert stage.trajectories == []
        stage.names = NAMES
        graph.wait_for(lambda: stage.commands, what='a command once the robot is there')


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'window_points': 5}, 'window_points is 5, but a stop from full speed takes 8'),
        ({'joint_states_fault_s': 0.4}, r'joint_states_timeout_s is 0\.5 and joint_states_fault_s is 0\.4'),
    ],
)
def test_parameters_that_contradict_the_robot_or_each_other_are_refused(parameters: dict, words: str) -> None:
    with (
        pytest.raises(BringupError, match=words),
        Bringup(ACTION, {'robot': 'aloha'}, node_parameters={'action': parameters}, log=lambda line: None),
    ):
        pass
