"""Actions on an absolute time line: what is due when, and what was really sent."""

from collections import deque
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Target:
    """What is due at an instant: joint positions [joints] and where they come from."""

    position: np.ndarray
    chunk: int
    index: int


class Timeline:
    """Joint targets of consecutive action chunks; times are integer nanoseconds.

    Action k of a chunk that begins at `start_ns` is due at start_ns + (k + 1) * dt. A newer chunk replaces what an
    older one has planned from its first action on.
    """

    def __init__(self, dt_ns: int) -> None:
        self._dt = dt_ns
        self._due = np.empty(0, dtype=np.int64)
        self._targets: list[Target] = []

    def clear(self) -> None:
        """Forget everything that is planned."""
        self._due, self._targets = np.empty(0, dtype=np.int64), []

    def splice(self, start_ns: int, actions: np.ndarray, chunk: int, now_ns: int) -> int:
        """Add a chunk, actions [n, joints]; return how many came too late and were dropped."""
        due = start_ns + self._dt * np.arange(1, len(actions) + 1, dtype=np.int64)
        late = int(np.count_nonzero(due <= now_ns))
        new = [Target(actions[k], chunk, k) for k in range(late, len(actions))]
        # The last planned target before the chunk stays, as the point from which its first action is approached.
        first = max(np.searchsorted(self._due, now_ns) - 1, 0)
        keep = slice(first, np.searchsorted(self._due, start_ns + self._dt // 2))
        self._due = np.concatenate([self._due[keep], due[late:]])
        self._targets = self._targets[keep] + new
        return late

    def at(self, time_ns: int) -> Target | None:
        """Interpolate the target at an instant; None when nothing is due then (hold)."""
        after = int(np.searchsorted(self._due, time_ns))
        if after == len(self._due) or self._due[after] - time_ns >= self._dt:
            return None
        target = self._targets[after]
        if after == 0 or self._due[after] - self._due[after - 1] > self._dt:
            return target
        fraction = (time_ns - self._due[after - 1]) / self._dt
        before = self._targets[after - 1].position
        return Target(before + fraction * (target.position - before), target.chunk, target.index)


@dataclass(frozen=True)
class Executed:
    """What was in force during one latent frame: actions [n, joints], and how many rows were limited or held."""

    actions: np.ndarray
    limited: int
    held: int


class ExecutedLog:
    """The commands of the last seconds, resampled on request to the latent clock."""

    def __init__(self, length: int) -> None:
        self._entries: deque[tuple[int, np.ndarray, bool, bool]] = deque(maxlen=length)

    @property
    def newest_ns(self) -> int | None:
        """Instant for which the last command was meant."""
        return self._entries[-1][0] if self._entries else None

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def add(self, time_ns: int, position: np.ndarray, limited: bool, held: bool) -> None:
        """Note a command [joints] and the instant for which it was meant; instants must increase."""
        self._entries.append((time_ns, position, limited, held))

    def resample(self, start_ns: int, dt_ns: int, count: int) -> Executed:
        """Interpolate what was in force at start_ns + (k + 1) * dt_ns for k in range(count).

        Raises:
            ValueError: nothing was noted yet.
        """
        if not self._entries:
            raise ValueError('no command was sent yet, so nothing was executed')
        times = np.array([entry[0] for entry in self._entries], dtype=np.int64)
        positions = np.stack([entry[1] for entry in self._entries])
        wanted = start_ns + dt_ns * np.arange(1, count + 1, dtype=np.int64)
        after = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
        before = np.maximum(after - 1, 0)
        span = np.maximum(times[after] - times[before], 1)
        fraction = np.clip((wanted - times[before]) / span, 0, 1)[:, None]
        limited, held = (np.array([entry[i] for entry in self._entries])[after] for i in (2, 3))
        return Executed(
            actions=positions[before] + fraction * (positions[after] - positions[before]),
            limited=int(limited.sum()),
            held=int(held.sum()),
        )
