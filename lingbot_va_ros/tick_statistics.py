"""Counts and distributions that the action node reports once a second."""

from collections import Counter

import numpy as np

from lingbot_va_core import limits

JUMP_NS = 100_000_000  # a smaller step back, as of a clock that is disciplined, is the jitter of a timer to us


class Distribution:
    """Percentiles of the newest values, in storage allocated once."""

    def __init__(self, length: int) -> None:
        self._values = np.empty(length)
        self._count = 0

    def add(self, value: float) -> None:
        """Note a value; the oldest one is forgotten."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    def percentile(self, percent: float) -> float:
        """Return a percentile of the values in view; nan without any."""
        values = self._values[: self._count]
        return float(np.percentile(values, percent)) if len(values) else float('nan')

    def mean(self) -> float:
        """Return the mean of the values in view; nan without any."""
        values = self._values[: self._count]
        return float(np.mean(values)) if len(values) else float('nan')


class TickStatistics:
    """What happened since activation, and how regularly.

    Attributes:
        counts: by name.
        period_ms: time between commands.
        latency_ms: newest image behind a chunk to the first command that comes from it.
    """

    COUNTS = (
        'commands',
        'held',
        'limited',
        *(f'limited_{name}' for name in limits.NAMES.values()),
        'starved_ticks',
        'chunks',
        'late_actions',
        'faded_actions',
        'refused_chunks',
        'ignored_chunks',
        'duplicate_chunks',
        'overruns',
        'clock_jumps',
        'gave_way',
    )

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(self.COUNTS, 0))
        self.period_ms = Distribution(512)
        self.latency_ms = Distribution(64)
        self.margin_ms = float('nan')
        self._last_ns: int | None = None

    def tick(self, now_ns: int) -> int:
        """Note a command; return the time since the one before, 0 for the first."""
        period = 0 if self._last_ns is None else max(now_ns - self._last_ns, 0)
        if self._last_ns is not None:
            self.period_ms.add(period / 1e6)
        self._last_ns = now_ns
        self.counts['commands'] += 1
        return period

    def note_limits(self, changed: int) -> None:
        """Note what changed a command, a sum of the constants in `limits.py`."""
        if changed:
            self.counts['limited'] += 1
            for bit, name in limits.NAMES.items():
                self.counts[f'limited_{name}'] += bool(changed & bit)

    def jumped_back(self, now_ns: int) -> bool:
        """Whether the clock has jumped back since the last command, by JUMP_NS at least; forgets that command if so."""
        if self._last_ns is None or now_ns > self._last_ns - JUMP_NS:
            return False
        self._last_ns = None
        self.counts['clock_jumps'] += 1
        return True

    def report(self) -> dict[str, str]:
        """Return counts and percentiles as texts."""
        p50, p99, most = (self.period_ms.percentile(percent) for percent in (50, 99, 100))
        return {
            **{name: str(count) for name, count in self.counts.items()},
            'rate_hz': f'{1e3 / self.period_ms.mean():.2f}' if p50 > 0 else '',
            'period_p50_ms': f'{p50:.2f}',
            'period_p99_ms': f'{p99:.2f}',
            'period_max_ms': f'{most:.2f}',
            'latency_p50_ms': f'{self.latency_ms.percentile(50):.1f}',
            'latency_p99_ms': f'{self.latency_ms.percentile(99):.1f}',
            'margin_ms': f'{self.margin_ms:.1f}',
        }
