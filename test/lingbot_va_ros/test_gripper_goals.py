"""Goals of gripper actions: only when something significant changes, and only where their package is installed."""

from importlib.util import find_spec

import numpy as np
import pytest

from lingbot_va_ros.gripper_goals import ACTIONS, SignificantChange, gripper_action
from lingbot_va_ros.managed_node import RefusedError

INSTALLED = find_spec('control_msgs') is not None


def test_the_measured_state_is_no_change_and_small_steps_add_up() -> None:
    change, goals = SignificantChange(0.0099), []
    for target in np.linspace(0.02, 0.055, 36):  # steps of 1 mm
        if change(float(target)):
            change.sent = float(target)
            goals.append(change.sent)
    assert goals == pytest.approx([0.03, 0.04, 0.05])


def test_noise_below_the_threshold_sends_nothing() -> None:
    change = SignificantChange(0.01)
    targets = 0.03 + np.random.default_rng(0).uniform(-0.0049, 0.0049, 1000)
    assert not any(change(float(target)) for target in targets)


def test_a_goal_that_could_not_be_sent_stays_wanted() -> None:
    change = SignificantChange(0.01)
    assert not change(0.02)
    assert change(0.04)
    assert change(0.04)


@pytest.mark.skipif(INSTALLED, reason='control_msgs is installed')
@pytest.mark.parametrize('kind', ACTIONS)
def test_without_control_msgs_the_output_is_refused_with_the_remedy(kind: str) -> None:
    with pytest.raises(
        RefusedError, match=rf'{kind} needs {ACTIONS[kind]} of the package control_msgs.*apt-get install'
    ):
        gripper_action(kind)


@pytest.mark.skipif(not INSTALLED, reason='control_msgs is not installed; it exists on ROS machines only')
@pytest.mark.parametrize('kind', ACTIONS)
def test_with_control_msgs_its_goals_have_a_command(kind: str) -> None:
    assert hasattr(gripper_action(kind).Goal(), 'command')
