"""From action vectors to the joints of a robot, and back: inverse and forward kinematics where the action has poses."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.kinematics import Kinematics, KinematicsError
from lingbot_va_core.limits import UNREACHABLE, JointLimits
from lingbot_va_core.robot import RobotProfile

SOLVED_AHEAD = 2  # control periods: each takes a quadratic program per arm


@dataclass(frozen=True)
class Targets:
    """Where the joints are to be in this control period and the following ones.

    Attributes:
        positions: joint vectors, float64 [periods, joints].
        velocities: of the targets, float64 [periods, joints].
        limits: UNREACHABLE at the joints of an arm that cannot reach the first pose, else 0, uint8 [joints].
    """

    positions: np.ndarray
    velocities: np.ndarray
    limits: np.ndarray


class JointTargets:
    """Knows how the action vector of a robot and its joint vector belong together.

    Joints that have a channel are taken from the action. Those that have none follow the pose of their arm's tool.
    """

    def __init__(self, profile: RobotProfile, kinematics: Kinematics | None, limits: JointLimits, dt: float) -> None:
        """Prepare for a robot; `limits` [joints] and the control period `dt` (s) are what solutions keep.

        Raises:
            KinematicsError: an arm needs inverse kinematics, which are not given.
        """
        channels = profile.channels.tolist()
        self._joints, self._dt = len(profile.joints), dt
        self._acting = profile.acting_joints
        self._columns = profile.joint_columns
        self._unlimited = np.zeros(self._joints, dtype=np.uint8)
        self._solved, self._posed = [], []
        for arm in profile.arms:
            if not arm.pose_in_action:
                continue
            first = channels.index(arm.channels[0])
            solver = kinematics.arms.get(arm.side) if kinematics else None
            if solver is None and arm.needs_ik:
                raise KinematicsError(f'the {arm.side} arm of {profile.name} needs kinematics; name its URDF or MJCF')
            if solver is None:
                continue
            at = kinematics.indices[arm.side]
            self._posed.append((slice(first, first + 7), solver, at))
            if arm.needs_ik:
                solver.set_limits(JointLimits(*(values[at] for values in vars(limits).values())), dt)
                self._solved.append((slice(first, first + 7), solver, at))
        self._same = self._columns.tolist() == self._acting.tolist() == list(range(self._joints))

    def targets(self, values: np.ndarray, velocities: np.ndarray, sent: np.ndarray) -> Targets:
        """Return joint targets for action vectors [periods, values] and their velocities.

        Args:
            values: as `Timeline.window` returns them; of a robot that needs inverse kinematics, the first two count.
            velocities: of the values.
            sent: the last command as a joint vector [joints], from where poses are tracked.
        """
        if self._same:  # an action vector is a joint vector
            return Targets(values, velocities, self._unlimited)
        goes_on = len(values) > SOLVED_AHEAD
        if self._solved:
            values, velocities = values[:SOLVED_AHEAD], velocities[:SOLVED_AHEAD]
        positions = np.empty((len(values), self._joints))
        speeds = np.zeros_like(positions)
        positions[:, self._acting], speeds[:, self._acting] = values[:, self._columns], velocities[:, self._columns]
        limits = self._unlimited
        for pose, solver, at in self._solved:
            joints = sent[at]
            for k, value in enumerate(values):
                solution = solver.track(joints, value[pose])
                joints = positions[k, at] = solution.joints
                if k == 0 and solution.unreachable:
                    limits = limits.copy()
                    limits[at] |= UNREACHABLE
            speeds[:-1, at] = np.diff(positions[:, at], axis=0) / self._dt
            if goes_on:
                speeds[-1, at] = speeds[-2, at]
        return Targets(positions, speeds, limits)

    def action(self, joints: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Return a joint vector [joints] as an action vector [values], poses where the joints bring the tools.

        Args:
            joints: as commanded or measured.
            previous: an action vector just before: it gives the quaternions' signs, and poses of arms without known
                joints.
        """
        action = np.array(previous, dtype=np.float64)
        action[self._columns] = joints[self._acting]
        for pose, solver, at in self._posed:
            now = solver.pose(joints[at])
            if now[3:] @ previous[pose][3:] < 0:
                now[3:] *= -1
            action[pose] = now
        return action
