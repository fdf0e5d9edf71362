"""How old the images are that the motion in execution was predicted from, and how long motion has been missing."""

from collections import deque
from dataclasses import dataclass

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.command_planner import HOLD, Command
from lingbot_va_ros.conversions import MessageError

LOSSES = 16  # stretches that are remembered


@dataclass
class _Loss:
    """A stretch of time in which the motion was slowed or paused, and the sum of what was lost before and after it."""

    begin_ns: int
    end_ns: int
    before_ns: int
    after_ns: int


class MotionProvenance:
    """Keeps account for one episode; all times are nanoseconds of the node's clock.

    Ages do not count the time by which the arms were slowed down or paused: what was seen before a pause is as old
    after it.

    Attributes:
        started: whether there was motion.
        first_latency_ns: newest image to command, at the first command of a chunk; None at the others.
    """

    def __init__(self, now_ns: int) -> None:
        self.started = False
        self.first_latency_ns: int | None = None
        self._newest_ns: int | None = None
        self._observed: dict[int, int] = {}  # chunk: stamp of its newest image, moved by what was lost until then
        self._lost_ns = 0
        self._losses: deque[_Loss] = deque(maxlen=LOSSES)
        self._chunk: int | None = None
        self._moved_ns = now_ns
        self._moving = False

    def check(self, chunk: int, newest_ns: int | None, now_ns: int, limit_s: float) -> None:
        """Refuse a chunk whose newest image is too old already.

        Raises:
            MessageError: it is.
        """
        newest = self._newest(newest_ns, now_ns)
        age = (now_ns - newest - (self._lost_ns - self._lost_until(newest))) / NANOSECONDS
        if age > limit_s:
            raise MessageError(
                f'action chunk {chunk} was predicted from images that are {age:.2f} s old; max_observation_age_s is '
                f'{limit_s:g}'
            )

    def add(self, chunk: int, newest_ns: int | None, now_ns: int) -> None:
        """Note a chunk that was taken."""
        self._newest_ns = self._newest(newest_ns, now_ns)
        self._observed[chunk] = self._newest_ns - self._lost_until(self._newest_ns)

    def note(self, command: Command, now_ns: int, dt_ns: int) -> None:
        """Note the command of one control period."""
        self.first_latency_ns = None
        self._moving = command.index != HOLD
        if self._moving or command.paused:
            self._moved_ns, self.started = now_ns, True
            if command.speed < 1.0:
                self._lose(now_ns, round((1.0 - command.speed) * dt_ns), dt_ns)
        if not self._moving:
            return
        if command.chunk != self._chunk:
            self._chunk = command.chunk
            if command.chunk in self._observed:
                self.first_latency_ns = self.age_ns(now_ns)
            for old in [number for number in self._observed if number < command.chunk]:
                del self._observed[old]

    def age_ns(self, now_ns: int) -> int:
        """Age of the newest image behind the motion in execution; 0 without motion."""
        observed = self._observed.get(self._chunk) if self._moving and self._chunk is not None else None
        return 0 if observed is None else max(now_ns - observed - self._lost_ns, 0)

    def starved_ns(self, now_ns: int) -> int:
        """Time since the last motion, or since the episode began."""
        return 0 if self._moving else max(now_ns - self._moved_ns, 0)

    def _lose(self, now_ns: int, lost_ns: int, dt_ns: int) -> None:
        """Note time that is lost in this control period."""
        if not self._losses or now_ns - self._losses[-1].end_ns > 2 * dt_ns:
            self._losses.append(_Loss(now_ns - dt_ns, now_ns, self._lost_ns, self._lost_ns))
        self._lost_ns += lost_ns
        self._losses[-1].end_ns, self._losses[-1].after_ns = now_ns, self._lost_ns

    def _lost_until(self, instant_ns: int) -> int:
        """Time that was lost until an instant; what was lost in a stretch is spread evenly over it."""
        for loss in reversed(self._losses):
            if instant_ns >= loss.begin_ns:
                share = min((instant_ns - loss.begin_ns) / (loss.end_ns - loss.begin_ns), 1.0)
                return loss.before_ns + round(share * (loss.after_ns - loss.before_ns))
        return self._losses[0].before_ns if self._losses else 0

    def _newest(self, newest_ns: int | None, now_ns: int) -> int:
        """Stamp to go by: that of the chunk, of the chunk before if it names none; one from the future is from now."""
        if newest_ns is None:
            return now_ns if self._newest_ns is None else self._newest_ns
        return min(newest_ns, now_ns)
