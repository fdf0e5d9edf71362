"""Whether a node that has ended is started again."""

import time
from collections.abc import Callable

WINDOW_S = 300.0


class Respawns:
    """Counts how often a node was started again.

    Args:
        limit: how often it may be within WINDOW_S.
        now: the time in seconds.

    Attributes:
        count: how often it was, ever.
    """

    def __init__(self, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._limit, self._now = limit, now
        self._recent: list[float] = []

    def allowed(self) -> bool:
        """Whether it may be started again now."""
        self._recent = [at for at in self._recent if self._now() - at < WINDOW_S]
        return len(self._recent) < self._limit

    def note(self) -> None:
        """It is started again."""
        self.count += 1
        self._recent.append(self._now())
