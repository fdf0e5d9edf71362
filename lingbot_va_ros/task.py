"""A running task: its episodes, what of the present one is still awaited, and since when; no ROS needed."""

import threading
import time
from dataclasses import dataclass, field

from lingbot_va_core.prediction_error import PredictionError

SLOWEST = 0.05  # speed of the arms below which nothing is expected sooner


class Progress:
    """Which latent frames of an episode are real, observed and executed, as far as they came in order.

    Times are those of `time.monotonic`.

    Attributes:
        real: frames before this are real.
        planned: frames before this may become real.
        changed_at: when `real` last grew, or was to begin to.
    """

    def __init__(self) -> None:
        self.real, self.planned = 0, 1
        self._stamps: dict[int, int] = {}
        self._executed = {0}
        self.changed_at = time.monotonic()

    def observe(self, index: int, stamp_ns: int) -> str:
        """Note a latent frame; return why it contradicts what is known, or ''."""
        if self._stamps.setdefault(index, stamp_ns) != stamp_ns:
            return f'latent frame {index} came again with another stamp; was perception restarted?'
        return self._advance('latent frame', index)

    def execute(self, index: int) -> str:
        """Note that a latent frame was executed; return why that contradicts what is known, or ''."""
        self._executed.add(index)
        return self._advance('executed frame', index)

    def plan(self, end: int, delay_s: float) -> None:
        """Expect frames before `end`, the first of the new ones after a delay."""
        if not self.awaited:
            self.changed_at = time.monotonic() + max(delay_s, 0.0)
        self.planned = end

    @property
    def awaited(self) -> bool:
        """Whether a planned frame is not real yet."""
        return self.real < self.planned

    def _advance(self, what: str, index: int) -> str:
        if index >= self.planned:
            return f'{what} {index} came, but {self.planned - 1} is the last that was planned'
        while self.real in self._stamps and self.real in self._executed:
            self._executed.remove(self.real)
            self.real += 1
            self.changed_at = time.monotonic()
        return ''


@dataclass
class Task:
    """What run_task asked for. `done` is set once, by whoever ends it; the thread that serves the goal waits for it.

    Attributes:
        number: counts up from 1.
        episode: the present one.
        chunks: published in this episode.
        all_chunks: published in this task.
        restarts: episodes that were given up.
        started_ns: on the node's clock.
        checked_ns: the node's clock when it was last looked at.
        error: the newest prediction error of this episode.
        latent_at: when a latent frame of some use last came, or none was awaited, `time.monotonic`.
    """

    number: int
    episode: int
    instruction: str
    time_limit_ns: int
    started_ns: int
    chunks: int = 0
    all_chunks: int = 0
    restarts: int = 0
    progress: Progress = field(default_factory=Progress)
    error: PredictionError | None = None
    latent_at: float = field(default_factory=time.monotonic)
    outcome: int = 0
    message: str = ''
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.checked_ns = self.started_ns

    def restart(self, episode: int) -> None:
        """Go on in another episode, from nothing but what will be observed in it."""
        self.episode, self.chunks, self.progress, self.error = episode, 0, Progress(), None
        self.restarts += 1

    def look_at_clock(self, now_ns: int) -> bool:
        """Note the time; return whether the clock was set back, which does not make the task longer."""
        jump = self.checked_ns - now_ns
        if jump > 0:
            self.started_ns -= jump
        self.checked_ns = now_ns
        return jump > 0

    @property
    def elapsed_ns(self) -> int:
        """Time since the start, when it was last looked at."""
        return self.checked_ns - self.started_ns

    def do_not_wait(self) -> None:
        """Let no time count as waiting: the arms are paused."""
        self.latent_at = self.progress.changed_at = time.monotonic()

    def waited_s(self) -> float:
        """How long a latent frame has been awaited and none has come, seconds; to be asked often."""
        if not self.progress.awaited and self._useful:
            self.latent_at = time.monotonic()
        return time.monotonic() - self.latent_at

    def note_latent(self, index: int) -> None:
        """Note that a latent frame came."""
        if index or self._useful:
            self.latent_at = time.monotonic()

    @property
    def _useful(self) -> bool:
        """Whether frame 0 of the present episode shows that the task gets on.

        Restarts whose motion is never executed, because the action node is not active, say, would otherwise go on for
        ever.
        """
        return not self.restarts or self.progress.real > 1

    def stuck(self, timeout_s: float, frame_s: float, speed: float) -> bool:
        """Whether an executed or latent frame must have been lost.

        That is so when none has become real for `timeout_s` longer than its motion takes. Before frame 0, which needs
        no motion and is not lost by being late, never.
        """
        progress, patience = self.progress, timeout_s + frame_s / max(speed, SLOWEST)
        return progress.real > 0 and progress.awaited and time.monotonic() - progress.changed_at > patience
