"""The last thing before the robot: commands follow targets as fast as the limits allow, and never faster."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lingbot_va_core.limits import ACCELERATION, POSITION, VELOCITY, WORKSPACE, JointLimits

STEPS_AHEAD = 3  # periods of motion in the look-ahead where a limit matters and each has to be computed by itself
TOLERANCE = 1e-3  # of a joint's range: a command that is nearer to its target is not called limited


class Guard(Protocol):
    """Knows where the arms must not go, such as `WorkspaceGuard`."""

    def inside(self, positions: np.ndarray) -> bool:
        """Whether all of these positions [n, joints] are allowed."""

    def allowed(self, position: np.ndarray, velocity: np.ndarray, brake: np.ndarray) -> np.ndarray:
        """Return the velocity [joints] nearest to `velocity` on the way to `brake` after which a stop is safe."""


@dataclass(frozen=True)
class Motion:
    """Commands for this control period and the following ones; the last ones are a stop.

    Attributes:
        positions: float64 [periods, joints]; the first is the command.
        velocities: float64 [periods, joints], central differences, so that a cubic through the points is smooth; the
            last is 0.
        moving: periods at the beginning that follow the targets.
        limits: what kept the first command from its target by more than a thousandth of a joint's range, a sum of the
            constants in `limits.py`, uint8 [joints]; 0 where nothing did.
    """

    positions: np.ndarray
    velocities: np.ndarray
    moving: int
    limits: np.ndarray


class CommandFilter:
    """Follows targets as fast as the limits allow. All vectors are float64 [joints]; units rad or m, and seconds.

    The state (`position`, `velocity`) is the last command. Each control period calls `follow`, `hold` or `reset`, after
    which velocity and acceleration are within their limits and every joint can stop before its position limit.

    Attributes:
        stopping_steps: control periods that a stop takes from full speed.
    """

    def __init__(self, limits: JointLimits, dt: float, guard: Guard | None = None, gross_s: float = 1.0) -> None:
        """Make a filter at rest.

        Args:
            limits: finite, margins included.
            dt: control period.
            guard: keeps tools in their workspace.
            gross_s: a target that takes longer to reach at full speed is gross, see `gross`.
        """
        self._limits, self._guard, self._dt = limits, guard, dt
        self._velocity_step = limits.acceleration * dt
        self._tolerance = TOLERANCE * (limits.upper - limits.lower)
        self._reach = limits.velocity * gross_s
        self.stopping_steps = int(np.ceil((limits.velocity / self._velocity_step).max() - 1e-9))
        self._rounding = limits.acceleration * (dt * dt / 8)
        self._unlimited = np.zeros(len(limits.lower), dtype=np.uint8)
        self.position = np.clip(np.zeros_like(limits.lower), limits.lower, limits.upper)
        self.velocity = np.zeros_like(self.position)

    def reset(self, position: np.ndarray, velocity: np.ndarray | None = None) -> None:
        """Start at a position [joints], at rest or with a velocity [joints]; from outside the limits it is led back."""
        self.position = np.array(position, dtype=np.float64)
        self.velocity = np.zeros_like(self.position) if velocity is None else np.array(velocity, dtype=np.float64)

    def copy(self) -> 'CommandFilter':
        """Return a filter with the same limits and state, to look ahead with."""
        other = object.__new__(CommandFilter)
        other.__dict__.update(self.__dict__)  # the state is rebound, never written into
        return other

    def gross(self, target: np.ndarray) -> np.ndarray:
        """Tell which joints cannot mean this target [joints]: not finite or too far away to be a motion, bool [joints].

        Such a target must not be followed, however slowly.
        """
        return ~(np.abs(target - self.position) <= self._reach)  # also where nan

    def follow(self, targets: np.ndarray, velocities: np.ndarray, periods: int) -> Motion:
        """Move one period towards the first target, and look ahead along the others to a stop.

        Args:
            targets: where to be at the end of this period and the following ones, finite, [n, joints], n >= 1.
            velocities: of the targets at these instants, [n, joints].
            periods: length of the look-ahead; what a stop from full speed leaves of it is motion, less where a limit
                matters.
        """
        before = self.position
        moving = max(min(len(targets), periods - self.stopping_steps), 1)
        targets, velocities = targets[:moving], velocities[:moving]
        if (positions := self._exactly(targets, velocities, periods)) is not None:
            limits = self._unlimited
        else:
            limits, ahead = self.step(targets[0], velocities[0]), self.copy()
            moving = min(moving, STEPS_AHEAD)
            positions = np.empty((periods, len(before)))
            positions[0] = self.position
            for k in range(1, moving):
                ahead.step(targets[k], velocities[k])
                positions[k] = ahead.position
            positions[moving:] = ahead.stop(periods - moving)
        return self._motion(before, positions, moving, limits)

    def hold(self, periods: int) -> Motion:
        """Move one period while slowing down as hard as allowed, and look ahead to the stop."""
        before = self.position
        self.brake()
        return self._motion(before, np.vstack([self.position, self.stop(periods - 1)]), 0, self._unlimited)

    def step(self, target: np.ndarray, target_velocity: np.ndarray) -> np.ndarray:
        """Move one period towards a finite `target`, which then moves on at `target_velocity`; see `Motion.limits`."""
        limits, dt = self._limits, self._dt
        goal = _clip(target, limits.lower, limits.upper)
        forward = _clip(target_velocity, -limits.velocity, limits.velocity)
        error = goal - self.position - forward * dt
        wanted = forward + np.copysign(self._approach(np.abs(error)), error)
        safe = _clip(wanted, -self._room(self.position - limits.lower), self._room(limits.upper - self.position))
        slow = _clip(safe, -limits.velocity, limits.velocity)
        velocity = _clip(slow, self.velocity - self._velocity_step, self.velocity + self._velocity_step)
        if self._guard is not None:
            brake = self.velocity - _clip(self.velocity, -self._velocity_step, self._velocity_step)
            guarded = self._guard.allowed(self.position, velocity, brake)
        else:
            guarded = velocity
        self.velocity = guarded
        self.position = self.position + guarded * dt
        off = np.abs(self.position - target) > self._tolerance
        if not off.any():
            return off.astype(np.uint8)
        limited = POSITION * ((goal != target) | (safe != wanted)) | VELOCITY * (
            (slow != safe) | (forward != target_velocity)
        )
        limited |= ACCELERATION * ((velocity != slow) | (limited == 0))  # it takes a while to speed up and slow down
        limited = np.where(guarded != velocity, WORKSPACE, limited)
        return np.where(off, limited, 0).astype(np.uint8)

    def brake(self) -> None:
        """Move one period while slowing down as hard as allowed."""
        self.velocity = self.velocity - _clip(self.velocity, -self._velocity_step, self._velocity_step)
        self.position = self.position + self.velocity * self._dt

    def stop(self, steps: int) -> np.ndarray:
        """Return the positions [steps, joints] of the next periods if `brake` were called in each."""
        return stopping_path(self.position, self.velocity, self._velocity_step, self._dt, steps)

    def _exactly(self, targets: np.ndarray, velocities: np.ndarray, periods: int) -> np.ndarray | None:
        """Go where the targets [n, joints] are, and return the positions [periods, joints]; None: a limit forbids it.

        What `step` would do one by one, where no limit matters; all periods at once are many times faster.
        """
        limits, dt, step = self._limits, self._dt, self._velocity_step
        needed = _steps(self.position, targets)
        needed /= dt
        change = _steps(self.velocity, needed)
        speed = np.abs(needed)
        braking = np.where(speed > step, speed * speed / (2 * limits.acceleration) - speed * dt / 2 + self._rounding, 0)
        possible = (
            (np.abs(change) <= step)
            & (np.abs(needed - velocities) <= step)
            & (speed <= limits.velocity)
            & (targets - limits.lower >= braking)
            & (limits.upper - targets >= braking)
        )
        if not possible.all():
            return None
        stop = stopping_path(targets[-1], needed[-1], step, dt, periods - len(targets))
        positions = np.concatenate([targets, stop])
        if self._guard is not None:
            soon = stopping_path(targets[0], needed[0], step, dt, self.stopping_steps)
            if not self._guard.inside(np.concatenate([positions, soon])):
                return None
        self.position, self.velocity = positions[0], needed[0]
        return positions

    def _motion(self, before: np.ndarray, positions: np.ndarray, moving: int, limits: np.ndarray) -> Motion:
        velocities = np.zeros_like(positions)
        np.subtract(positions[1], before, out=velocities[0])
        np.subtract(positions[2:], positions[:-2], out=velocities[1:-1])
        velocities /= 2 * self._dt
        return Motion(positions, velocities, moving, limits)

    def _room(self, distance: np.ndarray) -> np.ndarray:
        """Speed allowed towards a limit; negative (go back) beyond it."""
        return np.where(distance >= 0, self._approach(np.maximum(distance, 0)), distance / self._dt)

    def _approach(self, distance: np.ndarray) -> np.ndarray:
        """Highest speed from which the joint still stops within `distance`, this period's motion included.

        With speed v now and deceleration a in steps of dt the distance is at most v^2 / (2 a) + v dt / 2 + a dt^2 / 8;
        solved for v. A speed up to a dt is lost within one period and may use the whole distance.
        """
        a, dt = self._limits.acceleration, self._dt
        spare = np.maximum(distance - self._rounding, 0)
        stoppable = a * (np.sqrt(dt * dt / 4 + 2 * spare / a) - dt / 2)
        return np.minimum(distance / dt, np.maximum(stoppable, self._velocity_step))


def stopping_path(
    position: np.ndarray, velocity: np.ndarray, velocity_step: np.ndarray, dt: float, steps: int
) -> np.ndarray:
    """Return the positions [steps, joints] while the velocity goes to 0 by `velocity_step` per period dt."""
    lost = np.arange(1, steps + 1)[:, None] * velocity_step
    velocities = np.copysign(np.maximum(np.abs(velocity) - lost, 0), velocity)
    return position + np.cumsum(velocities, axis=0) * dt


def _steps(first: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the differences from row to row [n, joints], the first one from `first`; np.diff would copy the rows."""
    steps = np.empty_like(rows)
    np.subtract(rows[0], first, out=steps[0])
    np.subtract(rows[1:], rows[:-1], out=steps[1:])
    return steps


def _clip(values: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """np.clip, which takes several times as long on vectors this short."""
    return np.minimum(np.maximum(values, lower), upper)
