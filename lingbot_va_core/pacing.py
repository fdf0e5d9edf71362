"""When to predict and when a chunk begins, from measured latencies. Pure arithmetic in integer nanoseconds."""

from collections import deque
from dataclasses import dataclass

from lingbot_va_core.clock import LatentClock

LATE = ('hold', 'slow')
REMEMBERED = 8  # measurements
MIN_SPEED = 0.25


class PacingError(ValueError):
    """Settings that no pace follows from."""


@dataclass(frozen=True)
class Placement:
    """When a chunk is executed.

    Attributes:
        start_ns: when its first latent frame begins.
        dt_ns: time per action, the control period or longer.
        margin_ns: motion that was still planned when it came; below 0 the arms had come to its end so long before.
        speed: of the motion, 1 as the model predicts.
    """

    start_ns: int
    dt_ns: int
    margin_ns: int
    speed: float


class Pacer:
    """Paces the chunks of one robot; the caller says what time it is.

    Latency and observation delay are estimated as the largest of the last 8 measurements: one slow chunk makes the
    next ones begin early, which costs freshness of the observations, where an average would let the arms wait.

    Predictions begin so that a chunk is there `lead_ns` before the planned motion ends. One that comes before that end
    follows without a gap. Otherwise the arms hold until a point of the video grid, whole video periods after the newest
    observation, at least `lead_ns` ahead.

    A chunk t + 1 can be predicted once all before chunk t is observed, and must come before t ends. So inference keeps
    up as long as the motion of a chunk is not shorter than observation delay + latency + lead. Where it is,
    `late` = 'hold' lets the arms hold between chunks; 'slow' stretches the motion to that length, down to `min_speed`.
    In mode 'sync' the arms hold in any case, and are not slowed.
    """

    def __init__(
        self, clock: LatentClock, mode: str, lead_ns: int, late: str = 'hold', min_speed: float = MIN_SPEED
    ) -> None:
        """Know no latency yet, so that the first predictions begin at once.

        Args:
            clock: durations at full speed.
            mode: of the session.
            lead_ns: how long before its beginning a chunk has to be there.
            late: what to do when inference cannot keep up.
            min_speed: below which motion is not slowed.

        Raises:
            PacingError: a setting is out of range.
        """
        if late not in LATE:
            raise PacingError(f"late is '{late}'; choose one of {', '.join(LATE)}")
        if not 0 < min_speed <= 1:
            raise PacingError(f'min_speed is {min_speed}; it must be above 0 and at most 1')
        if lead_ns < 0:
            raise PacingError(f'lead_ns is {lead_ns}; it must be at least 0')
        self._clock, self._lead_ns, self._min_speed = clock, lead_ns, min_speed
        self._slows = late == 'slow' and mode != 'sync'
        self._latencies: deque[int] = deque(maxlen=REMEMBERED)
        self._delays: deque[int] = deque(maxlen=REMEMBERED)
        self.restart()

    def restart(self) -> None:
        """Begin a new episode: no motion is planned; measured latencies still count."""
        self._newest_ns = 0  # stamp of an observation
        self._ends: dict[int, int] = {}  # when planned latent frames end, from the last executed one on

    @property
    def latency_ns(self) -> int | None:
        """Estimated time from the beginning of a prediction to its chunk; None before the first."""
        return max(self._latencies, default=None)

    @property
    def motion_end_ns(self) -> int | None:
        """When the planned motion ends; None before the first chunk."""
        return next(reversed(self._ends.values()), None)

    @property
    def begin_ns(self) -> int:
        """When the next prediction is to begin: as late as its chunk still comes in time, so that it knows the most.

        0: at once. It can begin no earlier than the session is ready.
        """
        if not self._ends or self.latency_ns is None:
            return 0
        return self.motion_end_ns - self.latency_ns - self._lead_ns

    def observed(self, stamp_ns: int, now_ns: int) -> None:
        """Take note that a latent frame whose newest image has this stamp has become known."""
        self._newest_ns = max(stamp_ns, self._newest_ns)
        self._delays.append(max(now_ns - stamp_ns, 0))

    def executed(self, index: int, end_ns: int) -> None:
        """Take note of when the motion of a latent frame really ended; that of later ones shifts with it."""
        if index not in self._ends:
            return
        shift = end_ns - self._ends[index]
        self._ends = {later: planned + shift for later, planned in self._ends.items() if later >= index}

    def paused(self, duration_ns: int) -> None:
        """Take note that the motion stood still for so long: all that is planned ends later."""
        self._ends = {index: end + duration_ns for index, end in self._ends.items()}

    def predicted(self, began_ns: int, now_ns: int, first_latent_index: int, latent_frames: int) -> Placement:
        """Take note of a chunk that is there now, and say when it is executed."""
        self._latencies.append(now_ns - began_ns)
        end_ns = self.motion_end_ns
        start_ns = end_ns if end_ns is not None and now_ns <= end_ns else self._on_grid(now_ns + self._lead_ns)
        speed = self._speed(latent_frames * self._clock.latent_ns)
        dt_ns = -int(-self._clock.action_ns // speed)
        frame_ns = dt_ns * self._clock.actions_per_latent
        for i in range(latent_frames):
            self._ends[first_latent_index + i] = start_ns + (i + 1) * frame_ns
        return Placement(start_ns, dt_ns, 0 if end_ns is None else end_ns - now_ns, speed)

    def _on_grid(self, earliest_ns: int) -> int:
        periods = max(0, -((self._newest_ns - earliest_ns) // self._clock.video_ns))
        return self._newest_ns + periods * self._clock.video_ns

    def _speed(self, motion_ns: int) -> float:
        """Speed at which motion of this length lasts until the next chunk can be there."""
        if not self._slows:
            return 1.0
        cycle_ns = max(self._delays, default=0) + self.latency_ns + self._lead_ns
        return min(1.0, max(self._min_speed, motion_ns / cycle_ns)) if cycle_ns else 1.0
