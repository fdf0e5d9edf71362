"""Joint targets of one arm, piece by piece: ways through joint space, straight lines of the tool, the gripper."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from lingbot_va_sim.kinematics import ArmKinematics

# Of a minimum-jerk way of length 1 in time 1 (Flash and Hogan, The coordination of arm movements, 1985).
PEAK_VELOCITY, PEAK_ACCELERATION = 1.875, 5.7735
LINE_SPACING_M = 0.01  # between two solutions of the inverse kinematics on a line
SHORTEST_S = 0.2


@dataclass(frozen=True)
class ToolPose:
    """Where a tool is and where it points.

    Yaw, pitch and roll turn about z, the new y and the new x, in rad. At zero the tool points along x and its fingers
    move along y; a positive pitch points it down.
    """

    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> 'ToolPose':
        """Return the pose with its position moved in the world."""
        position = (self.position[0] + x, self.position[1] + y, self.position[2] + z)
        return ToolPose(position, self.yaw, self.pitch, self.roll)

    def back(self, distance: float) -> 'ToolPose':
        """Return the pose drawn back by `distance` against where it points."""
        return self.moved(*(-distance * self.rotation[:, 0]))

    @property
    def rotation(self) -> np.ndarray:
        """The rotation matrix of the tool, [3, 3]."""
        (cy, cp, cr), (sy, sp, sr) = (f((self.yaw, self.pitch, self.roll)) for f in (np.cos, np.sin))
        yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        return yaw @ pitch @ np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])


@dataclass(frozen=True)
class Pace:
    """How hard an arm may move: peaks as shares of the joints' limits, and of the tool on lines in m/s."""

    velocity: float = 0.45
    acceleration: float = 0.3
    line: float = 0.25
    gripper: float = 0.6


class ArmMotion:
    """What one arm does from its last target on. All vectors are its joints with the gripper last, float64 [joints].

    Positions of the gripper are openings: they grow when it opens, also where its joint turns the other way.

    Args:
        kinematics: of the joints without the gripper.
        start: the target from which the first piece begins.
        velocity, acceleration: limits of the joints.
        seed: joints without the gripper near which solutions of the inverse kinematics are sought: the branch in which
            no joint of the wrist is turned over. The first joint is turned to the target.
        dt: control period, s.
        pace: how hard to move.
        opens: 1.0 if the gripper opens when its joint grows, else -1.0.
    """

    def __init__(
        self,
        kinematics: ArmKinematics,
        start: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        seed: Callable[[ToolPose], np.ndarray],
        dt: float,
        pace: Pace,
        opens: float = 1.0,
    ) -> None:
        self._kinematics, self._seed, self._dt, self.pace = kinematics, seed, dt, pace
        self._velocity, self._acceleration, self._opens = velocity, acceleration, opens
        self._end = np.array(start, dtype=np.float64)
        self._target = self._label = self._end
        self._rows: deque[tuple[np.ndarray, np.ndarray]] = deque()  # target, label

    @property
    def busy(self) -> bool:
        """Whether something is left to do."""
        return bool(self._rows)

    @property
    def gripper(self) -> float:
        """What the gripper is set to at the end of all pieces."""
        return float(self._opens * self._end[-1])

    @property
    def gripper_target(self) -> float:
        """What the gripper is set to now."""
        return float(self._opens * self._target[-1])

    def pose(self) -> ToolPose:
        """Return where the present target has the tool."""
        position, rotation = self._kinematics.pose(self._target[:-1])
        yaw, pitch = np.arctan2(rotation[1, 0], rotation[0, 0]), -np.arcsin(np.clip(rotation[2, 0], -1, 1))
        return ToolPose(tuple(position), float(yaw), float(pitch), float(np.arctan2(rotation[2, 1], rotation[2, 2])))

    def step(self) -> tuple[np.ndarray, np.ndarray]:
        """Return target and label of the next control period; the last ones again when there is nothing to do.

        The label is what the arm should do. It differs from the target in a mistake that is made on purpose.
        """
        if self._rows:
            self._target, self._label = self._rows.popleft()
        return self._target, self._label

    def stop(self) -> None:
        """Drop what is left to do, and go on from the last target."""
        self._rows.clear()
        self._end = self._label = self._target

    def to(self, pose: ToolPose, gripper: float | None = None, via: np.ndarray | None = None) -> None:
        """Move through joint space to a pose of the tool, and the gripper to a position.

        `via` [joints without gripper] is added to the way, most in its middle, so that ways differ.
        """
        fingers = self._opens * (self.gripper if gripper is None else gripper)
        goal = np.append(self._solve(pose, self._seed(pose)), fingers)
        start, steps = self._end, self._steps(goal - self._end)
        bump = np.zeros_like(goal)
        if via is not None:
            bump[:-1] = via
        for share in _minimum_jerk(steps):
            self._add(start + share * (goal - start) + 16 * (share * (1 - share)) ** 2 * bump)

    def line(self, pose: ToolPose, speed: float | None = None) -> None:
        """Move the tool straight to a pose, at most at `speed` in m/s instead of the pace's."""
        start, end = self._kinematics.pose(self._end[:-1])[0], np.array(pose.position)
        distance = float(np.linalg.norm(end - start))
        count = max(ceil(distance / LINE_SPACING_M), 2)
        knots = [self._end[:-1]]
        for share in np.linspace(0, 1, count + 1)[1:]:
            at = ToolPose(tuple(start + share * (end - start)), pose.yaw, pose.pitch, pose.roll)
            knots.append(self._solve(at, knots[-1]))
        knots = np.array(knots)
        steps = max(ceil(PEAK_VELOCITY * distance / (speed or self.pace.line) / self._dt), self._least_steps)
        steps = max(steps, self._steps(np.append(knots[-1] - knots[0], 0)))
        gripper, places = self._end[-1], np.linspace(0, 1, count + 1)
        for share in _minimum_jerk(steps):
            self._add(np.append([np.interp(share, places, column) for column in knots.T], gripper))

    def grip(self, position: float, hold_s: float = 0.0) -> None:
        """Move the gripper to a position and hold for a while."""
        start, goal = self._end, self._end.copy()
        goal[-1] = self._opens * position
        for share in _minimum_jerk(self._steps(goal - start)):
            self._add(start + share * (goal - start))
        self.wait(hold_s)

    def wait(self, seconds: float) -> None:
        """Hold."""
        for _ in range(round(seconds / self._dt)):
            self._add(self._end)

    def mistake(self, wrong: Callable[['ArmMotion'], None], right: Callable[['ArmMotion'], None]) -> None:
        """Do what `wrong` says, labelled with what `right` says; the arm then goes on from the wrong end."""
        ideal = object.__new__(ArmMotion)
        ideal.__dict__.update(self.__dict__, _rows=deque())
        right(ideal)
        done, labels = len(self._rows), [label for _, label in ideal._rows]
        wrong(self)
        rows = list(self._rows)
        for number, (target, _) in enumerate(rows[done:]):
            rows[done + number] = target, labels[min(number, len(labels) - 1)]
        self._rows = deque(rows)

    @property
    def _least_steps(self) -> int:
        return round(SHORTEST_S / self._dt)

    def _steps(self, way: np.ndarray) -> int:
        """Return how many control periods a minimum-jerk way takes at this pace."""
        shares = np.full(len(way), self.pace.velocity)
        shares[-1] = self.pace.gripper
        slowest = (PEAK_VELOCITY * np.abs(way) / (shares * self._velocity)).max()
        heaviest = (PEAK_ACCELERATION * np.abs(way) / (self.pace.acceleration * self._acceleration)).max()
        return max(ceil(max(slowest, sqrt(heaviest)) / self._dt), self._least_steps)

    def _solve(self, pose: ToolPose, seed: np.ndarray) -> np.ndarray:
        return self._kinematics.solve(np.array(pose.position), pose.rotation, seed)

    def _add(self, row: np.ndarray) -> None:
        self._rows.append((row, row))
        self._end = row


def _minimum_jerk(steps: int) -> np.ndarray:
    """Return the covered share of a way after each of `steps` control periods."""
    u = np.arange(1, steps + 1) / steps
    return u**3 * (10 - 15 * u + 6 * u**2)
