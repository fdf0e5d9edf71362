"""From action chunks to the command of each control period and the motion that follows it, without ROS."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.action_layout import ActionLayout
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.executed_log import ExecutedFrame, ExecutedLog
from lingbot_va_core.motion import Splice, Timeline
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.safety import CommandFilter
from lingbot_va_ros.action_messages import ChunkActions
from lingbot_va_ros.command_outputs import Window
from lingbot_va_ros.managed_node import RefusedError
from lingbot_va_ros.tracking import TrackingError

HOLD = -1
PULL = 64  # control periods in which a constant offset between timer and motion clock fades
REMEMBERED_S = 0.2  # commands that count as recent, when the measured state is compared with them


@dataclass(frozen=True)
class Command:
    """What is commanded in one control period.

    Attributes:
        action: as an action vector, float64 [values].
        chunk: the chunk that it comes from, the last one while the arms hold.
        index: its place in the chunk, or HOLD.
        limited: a limit changed it.
        speed: at which the motion goes, 0 to 1.
        paused: motion is planned for now, but its speed is 0.
        frames: latent frames whose motion is complete with it.
    """

    action: np.ndarray
    chunk: int
    index: int
    limited: bool
    speed: float
    paused: bool
    frames: list[ExecutedFrame]


class CommandPlanner:
    """Follows the planned motion within the limits; without one it brakes and holds.

    Attributes:
        window: what is to be sent: the command, the motion that follows as far as it is planned, and a stop.
        timeline: the planned motion.
    """

    def __init__(self, profile: RobotProfile, points: int) -> None:
        """Plan windows of `points` control periods.

        Raises:
            RefusedError: a stop from full speed does not fit into them.
        """
        self._profile = profile
        self._dt_ns = profile.clock.action_ns
        self._dt = self._dt_ns / NANOSECONDS
        self._layout = ActionLayout.from_channels(profile.channels)
        fields = ('lower', 'upper', 'velocity', 'acceleration')
        self._filter = CommandFilter(*(profile.limits(field) for field in fields), self._dt)
        self._points = points
        self._moving = points - self._filter.stopping_steps
        if self._moving < 1:
            raise RefusedError(
                f'window_points is {points}, but a stop from full speed takes {self._filter.stopping_steps} '
                f'control periods on {profile.name}; set it to at least {self._filter.stopping_steps + 1}'
            )
        joints = len(profile.joints)
        self._path = np.empty((points + 1, joints))  # from the command before on
        self.window = Window(0, self._path[1:], np.zeros((points, joints)), np.zeros((points, len(profile.arms), 7)))
        self._tracking = TrackingError(profile, round(REMEMBERED_S / self._dt))
        self.restart()

    def restart(self) -> None:
        """Begin a new clock, with nothing planned; the arms stay where they are."""
        self.timeline = Timeline(
            self._layout,
            self._dt_ns,
            self._profile.clock.actions_per_latent,
            ramp_s=self._filter.stopping_steps * self._dt,  # no joint brakes harder than it may
        )
        self._log = ExecutedLog(self.timeline)
        self._beat_ns: int | None = None
        self._chunk = 0

    def arm(self, measured: np.ndarray) -> None:
        """Start at rest where the joints were measured, float64 [joints], with nothing planned."""
        self._filter.reset(measured)
        self._tracking.reset(measured)
        self.drop()

    def drop(self) -> None:
        """Forget the planned motion and the latent frame in execution; the next commands brake."""
        self.timeline.clear()
        self._log.clear()

    @property
    def at_rest(self) -> bool:
        """Whether the command stands still."""
        return not self._filter.velocity.any()

    def tracking_error(self, measured: np.ndarray) -> tuple[float, str]:
        """Return how far an arm's joint is from its recent commands, and which one."""
        return self._tracking.worst(measured)

    def splice(self, chunk: ChunkActions, number: int, first_latent_index: int) -> Splice:
        """Add a chunk to the planned motion; a ChunkError says why it is refused."""
        sent = self._action() if self.timeline.holding else None
        return self.timeline.splice(first_latent_index, chunk.start_ns, chunk.dt_ns, chunk.actions, number, sent)

    def step(self, now_ns: int, speed: float) -> Command:
        """Advance by one control period at a speed from 0 to 1, and plan the window from there."""
        self.timeline.advance(self._beat(now_ns) + self._dt_ns, speed)
        self.window.stamp_ns = now_ns
        planned = self.timeline.window(self._moving)
        limited = self._follow(planned.values, planned.velocities) if planned else self._brake()
        # Central differences, so that a controller's cubic passes smoothly through the points; the last is at rest.
        np.subtract(self._path[2:], self._path[:-2], out=self.window.velocities[:-1])
        self.window.velocities[:-1] /= 2 * self._dt
        self._tracking.add(self._path[1])
        action = self._action()
        paused = planned is not None and self.timeline.speed == 0
        frames = self._log.add(action, limited, paused)
        if planned:
            self._chunk = planned.chunk
        index = planned.index if planned and not paused else HOLD
        return Command(action, self._chunk, index, limited, self.timeline.speed, paused, frames)

    def _beat(self, now_ns: int) -> int:
        """Return the time of this control period, without the jitter of the timer.

        A timer is early or late by a part of its period; motion that took this for time would shake.
        """
        if self._beat_ns is None:
            self._beat_ns = now_ns
        else:
            self._beat_ns += max(1, round((now_ns - self._beat_ns) / self._dt_ns)) * self._dt_ns
            self._beat_ns += (now_ns - self._beat_ns) // PULL
        return self._beat_ns

    def _follow(self, values: np.ndarray, velocities: np.ndarray) -> bool:
        """Plan along targets [periods, values], then a stop; return whether a limit changed the first.

        The filter keeps the state after the first one, and a copy looks ahead.
        """
        path = self._path
        path[0] = self._filter.position
        limited = self._filter.step(values[0], velocities[0])
        path[1] = self._filter.position
        ahead = self._filter.copy()
        for k in range(1, len(values)):
            ahead.step(values[k], velocities[k])
            path[k + 1] = ahead.position
        path[len(values) + 1 :] = ahead.stop(self._points - len(values))
        return limited

    def _brake(self) -> bool:
        self._path[0] = self._filter.position
        self._path[1:] = self._filter.stop(self._points)
        self._filter.brake()
        return False

    def _action(self) -> np.ndarray:
        """Return the last command as a new action vector."""
        return self._filter.position.copy()
