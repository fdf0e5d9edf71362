"""Joint vectors as universal actions: what is measured or commanded, in the form in which data sets hold it."""

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.joint_targets import JointTargets
from lingbot_va_core.kinematics import Kinematics, joint_limits
from lingbot_va_core.robot import ProfileError, RobotProfile


class UniversalStates:
    """Turns joint vectors of a robot into universal actions, one after the other."""

    def __init__(self, profile: RobotProfile) -> None:
        """Prepare for a robot.

        Raises:
            ProfileError: an arm whose pose is in the action has no joints or no kinematics; KinematicsError likewise.
        """
        self._profile = profile
        posed = [arm for arm in profile.arms if arm.pose_in_action]
        without = next((arm.side for arm in posed if not arm.arm_joints), None)
        if without is not None:
            raise ProfileError(f'the pose of the {without} arm of {profile.name} cannot be known: it has no joints')
        kinematics = Kinematics.from_profile(profile) if posed else None
        limits = joint_limits(profile, kinematics)
        self._targets = JointTargets(profile, kinematics, limits, profile.clock.action_ns / NANOSECONDS)
        self._last = np.zeros(len(profile.channels))  # gives quaternions their signs

    def convert(self, joints: np.ndarray) -> np.ndarray:
        """Return joint vectors [n, joints] as universal actions, float32 [n, 30]."""
        rows = []
        for row in joints:
            self._last = self._targets.action(row, self._last)
            rows.append(self._last)
        return self._profile.to_universal(np.stack(rows))
