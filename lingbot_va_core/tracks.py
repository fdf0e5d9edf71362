"""What joints did over time, asked for at any instant: as they were measured, and as they were commanded."""

import heapq
from collections import deque
from copy import deepcopy

import numpy as np

NEVER = -(2**63)


class JointTrack:
    """Measured positions between the samples that came, which may come arm by arm.

    Positions are interpolated linearly between the two samples around an instant, if these are at most `max_gap_ns`
    apart. Of each source the last `history_ns` are kept, so that memory does not grow.
    """

    def __init__(self, joints: int, max_gap_ns: int, history_ns: int) -> None:
        self._joints, self._max_gap, self._history = joints, max_gap_ns, history_ns
        self._sources: dict[tuple[int, ...], deque[tuple[int, np.ndarray]]] = {}

    def clear(self) -> None:
        """Forget all samples."""
        self._sources.clear()

    def push(self, stamp_ns: int, columns: tuple[int, ...], positions: np.ndarray) -> None:
        """Add a sample of the joints in `columns`; one that is not newer than their last is ignored."""
        samples = self._sources.setdefault(columns, deque())
        if samples and stamp_ns <= samples[-1][0]:
            return
        samples.append((stamp_ns, positions))
        while samples[0][0] < stamp_ns - self._history:
            samples.popleft()

    def covers(self, instant_ns: int) -> bool:
        """Whether later samples cannot change what `at` returns."""
        return bool(self._sources) and all(samples[-1][0] >= instant_ns for samples in self._sources.values())

    def at(self, instant_ns: int, early: bool = False) -> np.ndarray:
        """Return positions, float64 [joints], nan where there is no sample on both sides that is near enough.

        With `early`, the first sample of all stands also for what was a little before it.
        """
        positions = np.full(self._joints, np.nan)
        for columns, samples in self._sources.items():
            later = None
            for stamp, values in reversed(samples):
                if stamp > instant_ns:
                    later = stamp, values
                    continue
                if stamp == instant_ns:
                    positions[list(columns)] = values
                elif later is not None and later[0] - stamp <= self._max_gap:
                    share = (instant_ns - stamp) / (later[0] - stamp)
                    positions[list(columns)] = values + share * (later[1] - values)
                break
            else:
                if early and later is not None and later[0] - instant_ns <= self._max_gap:
                    positions[list(columns)] = later[1]
        return positions


class CommandTrack:
    """Commanded positions: trajectories, each of which replaces the one before for its joints.

    From where the command stood when a trajectory begins it goes linearly through the points, and holds at the last
    one, as a joint trajectory controller does. A single position is a trajectory of one point that is due at once.
    Instants must be asked for in increasing order, when everything that begins before them was pushed.

    Attributes:
        late: trajectories that were pushed when a later instant had been asked for already.
    """

    def __init__(self, joints: int) -> None:
        self._value = np.full(joints, np.nan)
        self._pending: list[tuple[int, int, _Trajectory]] = []
        self._pushed = 0
        self._running: list[_Trajectory] = []
        self._asked_ns = self._known_ns = NEVER
        self.late = 0

    def copy(self) -> 'CommandTrack':
        """Return a track that goes on from the instant last asked for; what began before it need not be pushed again.

        If it is pushed again, it is ignored.
        """
        other = deepcopy(self)
        other._known_ns = self._asked_ns
        return other

    def restart(self) -> None:
        """Forget all trajectories, as when the clock has jumped; what was last asked for stays in force."""
        self._pending.clear()
        self._running.clear()
        self._asked_ns = self._known_ns = NEVER

    def push(self, start_ns: int, columns: tuple[int, ...], times_ns: np.ndarray, positions: np.ndarray) -> None:
        """Add a trajectory of the joints in `columns`: points [n, columns] due `times_ns` [n] after its start."""
        if start_ns <= self._known_ns:
            return
        self.late += start_ns < self._asked_ns
        self._pushed += 1
        trajectory = _Trajectory(start_ns, np.array(columns), times_ns, positions)
        heapq.heappush(self._pending, (start_ns, self._pushed, trajectory))

    def at(self, instant_ns: int) -> np.ndarray:
        """Return what is in force, float64 [joints]; nan for joints that nothing was commanded to yet."""
        while self._pending and self._pending[0][0] <= instant_ns:
            _, _, trajectory = heapq.heappop(self._pending)
            self._evaluate(trajectory.start_ns)
            trajectory.begin(self._value[trajectory.columns])
            replaced = set(trajectory.columns.tolist())
            self._running = [each for each in self._running if not replaced.issuperset(each.columns.tolist())]
            self._running.append(trajectory)
        self._evaluate(instant_ns)
        self._asked_ns = instant_ns
        return self._value.copy()

    def pass_by(self, instant_ns: int) -> None:
        """Let begin what begins until an instant, unless a later one was asked for; so trajectories do not pile up."""
        if instant_ns > self._asked_ns:
            self.at(instant_ns)

    def _evaluate(self, instant_ns: int) -> None:
        for trajectory in self._running:  # the newest is last and has the last word
            self._value[trajectory.columns] = trajectory.at(instant_ns)


class _Trajectory:
    """Points in time of some joints."""

    def __init__(self, start_ns: int, columns: np.ndarray, times_ns: np.ndarray, positions: np.ndarray) -> None:
        self.start_ns, self.columns = start_ns, columns
        self._times, self._positions = times_ns, positions

    def begin(self, before: np.ndarray) -> None:
        """Start from positions [columns]; where they are unknown, at the first point."""
        if self._times[0] > 0:
            first = np.where(np.isfinite(before), before, self._positions[0])
            self._times = np.concatenate([[0], self._times])
            self._positions = np.concatenate([first[None], self._positions])

    def at(self, instant_ns: int) -> np.ndarray:
        elapsed = instant_ns - self.start_ns
        after = int(np.searchsorted(self._times, elapsed, side='right'))
        if after == len(self._times):
            return self._positions[-1]
        if after == 0:
            return self._positions[0]
        span = self._times[after] - self._times[after - 1]
        share = (elapsed - self._times[after - 1]) / span
        return self._positions[after - 1] + share * (self._positions[after] - self._positions[after - 1])
