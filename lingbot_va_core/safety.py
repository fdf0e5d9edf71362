"""Limits on outgoing joint commands: position, velocity and acceleration, and a stop that respects them."""

import numpy as np


class CommandFilter:
    """Follows targets as fast as the limits allow. All vectors are float64 [joints]; units rad or m, and seconds.

    The state (`position`, `velocity`) is the last command. Every `step` moves it by one control period such that
    velocity and acceleration stay within their limits and the joint can always stop before its position limit.
    """

    def __init__(
        self,
        lower: np.ndarray,
        upper: np.ndarray,
        max_velocity: np.ndarray,
        max_acceleration: np.ndarray,
        dt: float,
    ) -> None:
        self._lower, self._upper = lower, upper
        self._max_velocity, self._max_acceleration = max_velocity, max_acceleration
        self._dt = dt
        self._velocity_step = max_acceleration * dt
        self._tolerance = 1e-3 * (upper - lower)
        self.position = np.clip(np.zeros_like(lower), lower, upper)
        self.velocity = np.zeros_like(lower)

    @property
    def stopping_steps(self) -> int:
        """Control periods that a stop takes from full speed."""
        return int(np.ceil((self._max_velocity / self._velocity_step).max() - 1e-9))

    def reset(self, position: np.ndarray) -> None:
        """Start at rest at a measured position [joints]; one outside the limits is led back inside."""
        self.position = np.array(position, dtype=np.float64)
        self.velocity = np.zeros_like(self.position)

    def copy(self) -> 'CommandFilter':
        """Return a filter with the same limits and state, to look ahead with."""
        other = object.__new__(CommandFilter)
        other.__dict__.update(self.__dict__)  # the state is rebound, never written into
        return other

    def step(self, target: np.ndarray, target_velocity: np.ndarray) -> bool:
        """Move one period towards `target`, which then moves on at `target_velocity`.

        Returns:
            Whether a limit kept the command from the target by more than a thousandth of the joint's range.
        """
        goal = _clip(target, self._lower, self._upper)
        feed_forward = _clip(target_velocity, -self._max_velocity, self._max_velocity)
        error = goal - self.position - feed_forward * self._dt
        wanted = feed_forward + np.copysign(self._approach(np.abs(error)), error)
        velocity = _clip(wanted, -self._room(self.position - self._lower), self._room(self._upper - self.position))
        velocity = _clip(velocity, self.velocity - self._velocity_step, self.velocity + self._velocity_step)
        self.velocity = _clip(velocity, -self._max_velocity, self._max_velocity)
        self.position = self.position + self.velocity * self._dt
        return bool((np.abs(self.position - target) > self._tolerance).any())

    def brake(self) -> None:
        """Move one period while slowing down as hard as allowed."""
        self.velocity = self.velocity - _clip(self.velocity, -self._velocity_step, self._velocity_step)
        self.position = self.position + self.velocity * self._dt

    def stop(self, steps: int) -> np.ndarray:
        """Return the positions [steps, joints] of the next periods if `brake` were called in each."""
        lost = np.arange(1, steps + 1)[:, None] * self._velocity_step
        velocities = np.copysign(np.maximum(np.abs(self.velocity) - lost, 0), self.velocity)
        return self.position + np.cumsum(velocities, axis=0) * self._dt

    def _room(self, distance: np.ndarray) -> np.ndarray:
        """Speed allowed towards a limit; negative (go back) beyond it."""
        return np.where(distance >= 0, self._approach(np.maximum(distance, 0)), distance / self._dt)

    def _approach(self, distance: np.ndarray) -> np.ndarray:
        """Highest speed from which the joint still stops within `distance`, this period's motion included.

        With speed v now and deceleration a in steps of dt the distance is at most v^2 / (2 a) + v dt / 2 + a dt^2 / 8;
        solved for v. A speed up to a dt is lost within one period and may use the whole distance.
        """
        a, dt = self._max_acceleration, self._dt
        spare = np.maximum(distance - a * (dt * dt / 8), 0)
        stoppable = a * (np.sqrt(dt * dt / 4 + 2 * spare / a) - dt / 2)
        return np.minimum(distance / dt, np.maximum(stoppable, self._velocity_step))


def _clip(values: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """np.clip, which takes several times as long on vectors this short."""
    return np.minimum(np.maximum(values, lower), upper)
