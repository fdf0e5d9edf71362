"""Grippers that are commanded by goals of an action: one at a significant change only."""

import time
from importlib import import_module
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.task import Future

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_window import CommandWindow
from lingbot_va_core.robot import GripperOutput, Joint, RobotProfile
from lingbot_va_ros.command_outputs import first_joints
from lingbot_va_ros.managed_node import ManagedNode, RefusedError

RETRY_S = 0.5  # before a goal that was rejected is sent again
ACTIONS = {'gripper_command': 'GripperCommand', 'parallel_gripper_command': 'ParallelGripperCommand'}


class SignificantChange:
    """Decides which of the targets that come at the control rate are sent; units of the joint."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.sent: float | None = None

    def __call__(self, target: float) -> bool:
        """Whether the target is far enough from the last one sent; the first one counts as sent, it is measured."""
        if self.sent is None:
            self.sent = target
        return abs(target - self.sent) >= self._threshold


class GripperGoals:
    """Sends one gripper's targets as goals.

    Attributes:
        problem: why goals do not reach the gripper, or ''.
    """

    def __init__(self, node: ManagedNode, output: GripperOutput, joint: Joint, column: int) -> None:
        self._kind = gripper_action(output.type)
        self._output, self._joint, self._column = output, joint, column
        self._client = ActionClient(node, self._kind, output.action)
        node.on_teardown(self._client.destroy)
        self._active: Any = None
        self._number = self._canceled = 0  # of goals: the last one sent, and the last one that was not to be executed
        self.reset()

    def reset(self) -> None:
        """Take the next target as the state that the gripper is in."""
        self._change = SignificantChange(self._output.threshold)
        self._retry_ns = 0  # steady time before which nothing is sent
        self.problem = ''

    def publish(self, window: CommandWindow) -> None:
        """Send a goal if the first sample of the window differs enough from the last goal."""
        target = float(window.positions[0, self._column])
        if not self._change(target) or time.monotonic_ns() < self._retry_ns:
            return
        if not self._client.server_is_ready():
            self.problem = f'nobody serves the gripper action {self._output.action}'
            return
        before, self._change.sent = self._change.sent, target
        self.problem = ''
        self._number += 1
        number = self._number
        future = self._client.send_goal_async(self._goal(target))
        future.add_done_callback(lambda done: self._on_answer(done, number, before))

    def cancel(self) -> None:
        """Cancel the goal in execution: the gripper stays where it is."""
        self._canceled = self._number  # one that is yet to be accepted is canceled then
        if self._active is not None:
            self._active.cancel_goal_async()
            self._active = None

    def _goal(self, target: float) -> Any:
        goal = self._kind.Goal()
        if self._output.type == 'gripper_command':
            goal.command.position, goal.command.max_effort = target, self._output.max_effort
        else:
            goal.command.name, goal.command.position = [self._joint.name], [target]
            if self._output.max_effort:
                goal.command.effort = [self._output.max_effort]
        return goal

    def _on_answer(self, future: Future, number: int, before: float) -> None:
        """Take the server's answer to a goal; `before` is the target of the goal before it."""
        handle = future.result()
        if not handle.accepted:
            self.problem = f'the gripper action {self._output.action} rejected a goal'
            if number == self._number:
                self._change.sent = before
                self._retry_ns = time.monotonic_ns() + round(RETRY_S * NANOSECONDS)
        elif number <= self._canceled:
            handle.cancel_goal_async()
        else:
            self._active = handle
            handle.get_result_async().add_done_callback(lambda done: self._on_result(done, handle))

    def _on_result(self, future: Future, handle: Any) -> None:
        if handle is self._active:  # no newer goal has taken its place
            self._active = None
            if future.result().status == GoalStatus.STATUS_ABORTED:
                self.problem = f'the gripper action {self._output.action} aborted a goal'


def gripper_action(kind: str) -> Any:
    """Return the action type for a kind of gripper output; this is the only place that needs control_msgs.

    Raises:
        RefusedError: control_msgs is not installed.
    """
    try:
        return getattr(import_module('control_msgs.action'), ACTIONS[kind])
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f'the gripper output {kind} needs {ACTIONS[kind]} of the package control_msgs, which is not installed '
            '(there is no wheel of it; on a ROS machine: apt-get install ros-$ROS_DISTRO-control-msgs); install it, '
            'or choose in_output, joint_trajectory or joint_group in the profile'
        ) from error


def make_gripper_goals(profile: RobotProfile, node: ManagedNode) -> list[GripperGoals]:
    """Build the goals of all arms whose gripper takes them."""
    found = []
    for arm, first in zip(profile.arms, first_joints(profile), strict=True):
        joint = arm.gripper_joint
        if joint is not None and arm.gripper is not None and arm.gripper.action:
            found.append(GripperGoals(node, arm.gripper, joint, first + arm.joints.index(joint)))
    return found
