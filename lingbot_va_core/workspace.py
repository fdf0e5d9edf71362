"""Boxes that the tools must not leave."""

import numpy as np

from lingbot_va_core.command_filter import stopping_path
from lingbot_va_core.kinematics import ArmKinematics, Kinematics, KinematicsError
from lingbot_va_core.robot import RobotProfile

SHRINK = 1e-3  # m: between two control periods the tool's way is an arc, less than this beside its chord
SCALES = (0.5, 0.25, 0.1, 0.0)


class ToolBox:
    """The box of one tool, in its base frame.

    Far from the walls nothing needs to be computed: from joints at which the tool is known to be a distance away from
    all walls, it stays inside as long as the joints' changes, each times its lever, do not add up to that distance.
    """

    def __init__(
        self, arm: ArmKinematics, joints: np.ndarray, lower: tuple[float, ...], upper: tuple[float, ...]
    ) -> None:
        self.arm, self.joints = arm, joints
        self._lower, self._upper = np.array(lower) + SHRINK, np.array(upper) - SHRINK
        self._known, self._distance = np.zeros(len(joints)), -1.0
        self._bounded = bool(np.isfinite(arm.levers).all())

    def excess(self, positions: np.ndarray) -> float:
        """How far the tool is outside at the worst of these positions [n, joints of the robot], m; 0 inside."""
        joints = positions[:, self.joints]
        if self._surely_inside(joints):
            return 0.0
        self._known, tool = joints[0].copy(), self.arm.positions(joints[:1])
        self._distance = float(np.minimum(tool - self._lower, self._upper - tool).min())
        if self._surely_inside(joints):
            return 0.0
        tool = self.arm.positions(joints)
        return max(float(np.maximum(self._lower - tool, tool - self._upper).max()), 0.0)

    def _surely_inside(self, joints: np.ndarray) -> bool:
        return self._bounded and bool((np.abs(joints - self._known) @ self.arm.levers).max() < self._distance)


class WorkspaceGuard:
    """Lets an arm move only where it could still stop within its box.

    A control period is allowed if the tool stays inside during it and during the stop, as hard as allowed, that could
    follow. If it would not, the change of velocity towards the target is scaled down, at last to that stop itself,
    which the period before has shown to be inside. So a tool that starts inside never leaves, nor does it in the
    look-ahead, and the limits of acceleration hold at the wall as well. A tool that starts outside may come back, and
    go no farther out.
    """

    def __init__(self, boxes: list[ToolBox], velocity_step: np.ndarray, dt: float) -> None:
        self._boxes, self._step, self._dt = boxes, velocity_step, dt

    @classmethod
    def from_profile(
        cls, profile: RobotProfile, kinematics: Kinematics, acceleration: np.ndarray, dt: float
    ) -> 'WorkspaceGuard | None':
        """Guard the arms whose profile has a workspace; None: no arm has.

        Args:
            profile: of the robot.
            kinematics: of its arms.
            acceleration: limits of the joint vector [joints], with which it stops.
            dt: control period, s.

        Raises:
            KinematicsError: an arm has a workspace but no end effector.
        """
        boxes = []
        for arm in profile.arms:
            if arm.workspace is None:
                continue
            if arm.side not in kinematics.arms:
                raise KinematicsError(f'the {arm.side} arm of {profile.name} has a workspace but no end_effector')
            joints, box = kinematics.indices[arm.side], arm.workspace
            boxes.append(ToolBox(kinematics.arms[arm.side], joints, box.lower, box.upper))
        return cls(boxes, acceleration * dt, dt) if boxes else None

    def inside(self, positions: np.ndarray) -> bool:
        """Whether all tools are inside at all of these positions [n, joints]."""
        return all(box.excess(positions) == 0 for box in self._boxes)

    def allowed(self, position: np.ndarray, velocity: np.ndarray, brake: np.ndarray) -> np.ndarray:
        """Return the velocity [joints] for this period, arm by arm between `velocity` and `brake`, the hardest stop."""
        result = velocity
        for box in self._boxes:
            most, tried = box.excess(position[None]), result
            for scale in SCALES:
                if box.excess(self._stop(position, tried)) <= most:
                    break
                tried = result.copy()
                tried[box.joints] = brake[box.joints] + scale * (velocity - brake)[box.joints]
            result = tried
        return result

    def _stop(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Positions at the end of this period and of those of the stop after it."""
        periods = int(np.max(np.abs(velocity) / self._step)) + 1
        first = position + velocity * self._dt
        return np.vstack([first, stopping_path(first, velocity, self._step, self._dt, periods)])
