"""What the robot is to do in the next control periods: joints, and where they bring the tools."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.kinematics import Kinematics
from lingbot_va_core.robot import RobotProfile


class ToolPoses:
    """Where joints bring the tools; only arms with an end effector have one."""

    def __init__(self, profile: RobotProfile, kinematics: Kinematics | None) -> None:
        sides = [arm.side if kinematics and arm.side in kinematics.arms else None for arm in profile.arms]
        self._arms = [side and (kinematics.arms[side], kinematics.indices[side]) for side in sides]
        self._before = np.zeros((len(sides), 4))  # the last first quaternion of each

    def poses(self, arm: int, positions: np.ndarray) -> np.ndarray:
        """Return poses [n, 7] (m, quaternion x y z w) of an arm's tool in its base frame at [n, joints].

        A quaternion never is far from the one before it.
        """
        solver, joints = self._arms[arm]
        poses = solver.poses(positions[:, joints])
        before = self._before[arm]
        for quaternion in poses[:, 3:]:
            if quaternion @ before < 0:
                quaternion *= -1
            before = quaternion
        self._before[arm] = poses[0, 3:]
        return poses


@dataclass
class CommandWindow:
    """What is to be commanded from now on, one row per control period; the last row is at rest.

    Attributes:
        stamp_ns: now; row k is due k + 1 control periods later.
        positions, velocities: float64 [points, joints] in the order of the profile.
        tools: finds the poses of the tools, for those who want them.
    """

    stamp_ns: int
    positions: np.ndarray
    velocities: np.ndarray
    tools: ToolPoses
