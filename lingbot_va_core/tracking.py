"""How far the robot is from what it was told to do."""

import numpy as np

from lingbot_va_core.robot import RobotProfile


class TrackingError:
    """Distance of each measured joint from everything that was commanded lately.

    A robot follows with a delay that nobody knows. So a joint that is anywhere between the smallest and the largest
    command of the last `length` control periods counts as where it should be. Grippers are left out: they are meant to
    close on things.
    """

    def __init__(self, profile: RobotProfile, length: int) -> None:
        grippers = [arm.gripper_joint for arm in profile.arms]
        self._joints = np.array([i for i, joint in enumerate(profile.joints) if joint not in grippers], dtype=np.intp)
        self._names = [profile.joints[i].name for i in self._joints]
        self._commands = np.empty((length, len(profile.joints)))
        self._next = 0

    def reset(self, position: np.ndarray) -> None:
        """Forget what was commanded; begin at a position [joints]."""
        self._commands[:] = position

    def add(self, command: np.ndarray) -> None:
        """Note a command [joints]."""
        self._commands[self._next] = command
        self._next = (self._next + 1) % len(self._commands)

    def worst(self, measured: np.ndarray) -> tuple[float, str]:
        """Return the largest distance (rad, or m) and the joint's name; 0 for a robot without joints of the arm."""
        if not len(self._joints):
            return 0.0, ''
        low, high = self._commands.min(axis=0), self._commands.max(axis=0)
        distance = np.maximum(np.maximum(low - measured, measured - high), 0.0)[self._joints]
        worst = int(distance.argmax())
        return float(distance[worst]), self._names[worst]
