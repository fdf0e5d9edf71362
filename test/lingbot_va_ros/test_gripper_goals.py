"""Goals of gripper actions: only when something significant changes, and only where their package is installed."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from action_stage import ACTION, Stage
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.task import Future
from sample_messages import make_chunk
from support import Graph

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import actions_field, to_duration
from lingbot_va_ros.gripper_goals import ACTIONS, SignificantChange, gripper_action
from lingbot_va_ros.managed_node import RefusedError

INSTALLED = find_spec('control_msgs') is not None
LEFT = 7  # the left gripper among the joints of the profile gazebo


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
def test_a_gripper_follows_its_goals_and_an_emergency_stop_cancels_the_last_one(kind: str, tmp_path: Path) -> None:
    text = re.sub(r'type: \w*gripper_command', f'type: {kind}', profile_path('gazebo').read_text())
    (tmp_path / 'robot.yaml').write_text(text)
    profile = load_profile(str(tmp_path / 'robot.yaml'))
    assert {arm.gripper.type for arm in profile.arms} == {kind}
    rows = np.tile(profile.limits('home'), (16, 1))
    rows[:, LEFT] = np.linspace(0.6, 0.3, 16)
    with Graph() as graph:
        left, right = (Gripper(graph, kind, arm.gripper.action) for arm in profile.arms)
        stage = Stage(graph, profile)
        with Bringup(ACTION, {'robot': str(tmp_path / 'robot.yaml')}, log=lambda line: None):
            graph.wait_for(lambda: stage.commands and stage.states, what='the first command and state')
            stage.begin()
            stage.send(
                make_chunk(
                    first_latent_index=1, latent_frames=1, dt=to_duration(profile.clock.action_ns),
                    mask=profile.mask.tolist(), actions=actions_field(profile.to_universal(rows)),
                )
            )  # fmt: skip
            graph.wait_for(lambda: left.goals and left.goals[-1] < 0.32, what='the last goal of the left gripper')
            stage.say('e_stop', True)
            graph.wait_for(lambda: left.canceled, what='the cancellation')
    assert 1 <= len(left.goals) <= 0.3 / 0.02
    assert left.asked == len(left.goals) + 1, 'what was rejected came again, at another time'
    assert np.all(np.diff(left.goals) <= -0.02)
    assert right.goals == []


class Gripper:
    """Serves the action of a gripper; a goal is executed until the next one comes, or it is canceled."""

    def __init__(self, graph: Graph, kind: str, action: str) -> None:
        self.asked = 0  # the first goal is rejected
        self.goals: list[float] = []
        self.canceled = False
        self._kind = gripper_action(kind)
        self._over = Future()
        self._server = ActionServer(
            graph.node, self._kind, action, self._execute, callback_group=ReentrantCallbackGroup(),
            goal_callback=self._answer, handle_accepted_callback=self._accept, cancel_callback=self._cancel,
        )  # fmt: skip

    def _answer(self, request: Any) -> GoalResponse:
        self.asked += 1
        return GoalResponse.REJECT if self.asked == 1 else GoalResponse.ACCEPT

    def _accept(self, handle: ServerGoalHandle) -> None:
        self._over.set_result(None)
        self._over = Future()
        self.goals.append(float(np.ravel(handle.request.command.position)[0]))
        handle.execute()

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        self._over.set_result(None)
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> Any:
        await self._over
        if handle.is_cancel_requested:
            handle.canceled()
            self.canceled = True
        else:
            handle.abort()
        return self._kind.Result()
