"""What ros2_control's joint_trajectory_controller does with the trajectories of one arm, fed with plain data."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

NANOSECONDS = 1e9
ZERO_VELOCITY = float(np.finfo(np.float32).eps)  # what the real controller tolerates at the end of a trajectory
COEFFICIENTS = 6  # of a quintic


class TrajectoryError(ValueError):
    """A trajectory that the controller rejects; the message is the reason."""


@dataclass(frozen=True)
class Trajectory:
    """The content of a trajectory_msgs/JointTrajectory.

    Attributes:
        stamp_ns: instant from which `times_ns` count; None (a stamp of 0 in ROS) means when it arrives.
        joint_names: the columns of the other fields.
        times_ns: time_from_start of each point, increasing.
        positions: for each point the positions of the joints, rad (m for grippers).
        velocities: per second, for each point; empty where a point gives none.
        accelerations: per second squared, likewise.
    """

    stamp_ns: int | None
    joint_names: Sequence[str]
    times_ns: Sequence[int]
    positions: Sequence[Sequence[float]]
    velocities: Sequence[Sequence[float]] = ()
    accelerations: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class _Point:
    time_ns: int
    positions: np.ndarray
    velocities: np.ndarray | None
    accelerations: np.ndarray | None


class TrajectoryController:
    """Follows the newest trajectory and holds at its end.

    A new trajectory replaces the old one outright and starts from the state that is desired at that moment. Between
    two points the motion is linear, cubic if both have velocities, quintic if both have accelerations too. As on the
    robot, a point that is already due makes the set-point step, and limits are not checked. Unlike there, values that
    are not finite are rejected.
    """

    def __init__(self, joint_names: Sequence[str], positions: np.ndarray) -> None:
        """Hold at `positions` [joints]."""
        self.joint_names = tuple(joint_names)
        self._positions = np.empty(len(self.joint_names))
        self._velocities = np.empty(len(self.joint_names))
        self._accelerations = np.empty(len(self.joint_names))
        self._coefficients = np.empty((COEFFICIENTS, len(self.joint_names)))
        self.hold(positions)

    def hold(self, positions: np.ndarray) -> None:
        """Drop the trajectory and stay at `positions` [joints]."""
        self._follow([_Point(0, np.array(positions, dtype=np.float64), None, None)])

    def replace(self, trajectory: Trajectory, now_ns: int) -> None:
        """Follow `trajectory` from `now_ns` on, or raise TrajectoryError and go on as before."""
        points = self._parse(trajectory, now_ns)
        end = points[-1]
        if trajectory.stamp_ns is not None and end.time_ns < now_ns:
            raise TrajectoryError(f'the last point was due {(now_ns - end.time_ns) / 1e6:.1f} ms ago')
        if end.velocities is not None and np.abs(end.velocities).max() > ZERO_VELOCITY:
            joint = int(np.abs(end.velocities).argmax())
            raise TrajectoryError(
                f'{self.joint_names[joint]} has velocity {end.velocities[joint]:g} at the last point; it must be 0'
            )
        if points[0].time_ns > now_ns:
            self._evaluate(now_ns)
            desired = (self._positions.copy(), self._velocities.copy(), self._accelerations.copy())
            points.insert(0, _Point(now_ns, *desired))
        self._follow(points)

    def set_positions(self, positions: Sequence[float], joint_names: Sequence[str] | None = None) -> None:
        """Step to positions and stay there, as a forward_command_controller does.

        With `joint_names`, they are those of the named joints; names of other joints are passed over, and joints that
        are not named stay where they were going.

        Raises:
            TrajectoryError: a wrong number of positions, or one that is not finite.
        """
        names = self.joint_names if joint_names is None else joint_names
        if len(positions) != len(names):
            raise TrajectoryError(f'{len(positions)} positions for {len(names)} joints')
        targets = np.array(self._points[-1].positions)
        for name, position in zip(names, positions, strict=True):
            if name not in self.joint_names:
                continue
            if not np.isfinite(position):
                raise TrajectoryError(f'the position of {name} is {position}')
            targets[self.joint_names.index(name)] = position
        self.hold(targets)

    def sample(self, time_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Return desired positions and velocities [joints] at `time_ns`, in arrays that the next call overwrites."""
        self._evaluate(time_ns)
        return self._positions, self._velocities

    def _follow(self, points: list[_Point]) -> None:
        self._points = points
        self._times = [point.time_ns for point in points]
        self._fitted = -1  # index of the segment that `_coefficients` describe; most are never reached

    def _evaluate(self, time_ns: int) -> None:
        index = max(bisect_right(self._times, time_ns) - 1, 0)
        if index == len(self._points) - 1:
            self._positions[:] = self._points[-1].positions
            self._velocities[:] = self._accelerations[:] = 0.0
            return
        if index != self._fitted:
            _fit(self._coefficients, self._points[index], self._points[index + 1])
            self._fitted = index
        start, length = self._times[index], self._times[index + 1] - self._times[index]
        duration = length / NANOSECONDS
        u = max(time_ns - start, 0) / length
        powers = np.array(((1.0, u, u**2, u**3, u**4, u**5),
                           (0.0, 1.0, 2 * u, 3 * u**2, 4 * u**3, 5 * u**4),
                           (0.0, 0.0, 2.0, 6 * u, 12 * u**2, 20 * u**3)))  # fmt: skip
        np.matmul(powers[0], self._coefficients, out=self._positions)
        np.matmul(powers[1] / duration, self._coefficients, out=self._velocities)
        np.matmul(powers[2] / duration**2, self._coefficients, out=self._accelerations)

    def _parse(self, trajectory: Trajectory, now_ns: int) -> list[_Point]:
        names = list(trajectory.joint_names)
        if sorted(names) != sorted(self.joint_names):
            missing = [name for name in self.joint_names if name not in names]
            unknown = [name for name in names if name not in self.joint_names]
            repeated = sorted({name for name in names if names.count(name) > 1})
            problems = (('missing', missing), ('unknown', unknown), ('repeated', repeated))
            details = '; '.join(f'{what} {", ".join(which)}' for what, which in problems if which)
            raise TrajectoryError(f'the joints do not match the controller: {details}')
        if not len(trajectory.times_ns):
            raise TrajectoryError('it has no points')
        if trajectory.times_ns[0] < 0:
            raise TrajectoryError(f'time_from_start of point 0 is {trajectory.times_ns[0] / NANOSECONDS:g} s, below 0')
        for index, (before, after) in enumerate(pairwise(trajectory.times_ns), start=1):
            if after <= before:
                raise TrajectoryError(
                    f'time_from_start does not increase: point {index} at {after / NANOSECONDS:g} s '
                    f'follows {before / NANOSECONDS:g} s'
                )
        order = [names.index(name) for name in self.joint_names]
        start = now_ns if trajectory.stamp_ns is None else trajectory.stamp_ns
        points = [
            _Point(start + time, *(_values(trajectory, field, index, order) for field in _FIELDS))
            for index, time in enumerate(trajectory.times_ns)
        ]
        for field in _FIELDS:
            if len(getattr(trajectory, field)) > len(points):
                raise TrajectoryError(f'{len(getattr(trajectory, field))} rows of {field} for {len(points)} points')
        for index, point in enumerate(points):
            if point.positions is None:
                raise TrajectoryError(f'point {index} has no positions')
            if point.accelerations is not None and point.velocities is None:
                raise TrajectoryError(f'point {index} has accelerations without velocities')
        return points


_FIELDS = ('positions', 'velocities', 'accelerations')


def _values(trajectory: Trajectory, field: str, index: int, order: list[int]) -> np.ndarray | None:
    """Return one field of one point in the controller's order of joints, or None where it is not given."""
    rows = getattr(trajectory, field)
    if index >= len(rows) or not len(rows[index]):
        return None
    row = np.array(rows[index], dtype=np.float64)
    if row.shape != (len(order),):
        raise TrajectoryError(f'point {index} has {row.size} {field} for {len(order)} joints')
    if not np.isfinite(row).all():
        joint = int(np.flatnonzero(~np.isfinite(row))[0])
        raise TrajectoryError(f'point {index} has {row[joint]} among its {field} ({trajectory.joint_names[joint]})')
    return row[order]


def _fit(coefficients: np.ndarray, start: _Point, stop: _Point) -> None:
    """Write the polynomial in the elapsed share of the segment, lowest power first, [6, joints].

    It meets both points in position and in the derivatives that both have (Hermite interpolation).
    """
    duration = (stop.time_ns - start.time_ns) / NANOSECONDS
    way = stop.positions - start.positions
    coefficients[:] = 0.0
    coefficients[0] = start.positions
    if start.velocities is None or stop.velocities is None:
        coefficients[1] = way
        return
    v0, v1 = start.velocities * duration, stop.velocities * duration
    coefficients[1] = v0
    if start.accelerations is None or stop.accelerations is None:
        coefficients[2] = 3 * way - 2 * v0 - v1
        coefficients[3] = v0 + v1 - 2 * way
        return
    a0, a1 = start.accelerations * duration**2, stop.accelerations * duration**2
    coefficients[2] = a0 / 2
    coefficients[3] = 10 * way - 6 * v0 - 4 * v1 - (3 * a0 - a1) / 2
    coefficients[4] = -15 * way + 8 * v0 + 7 * v1 + (3 * a0 - 2 * a1) / 2
    coefficients[5] = 6 * way - 3 * (v0 + v1) - (a0 - a1) / 2
