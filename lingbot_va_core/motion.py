"""The motion that is planned, on a clock that runs as fast as the arms may go: what is due in each control period.

Motion time stands still while the arms are paused and runs at `speed` otherwise. It is behind the clock by a lag, which
vanishes whenever nothing is due: a hold is no motion. All times are integer nanoseconds.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np

from lingbot_va_core.action_layout import ActionError, ActionLayout
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.plan import ACTION, SEAM, START, Plan

MAX_PLANNED = 1024  # actions
MAX_ACTION_NS = 1_000_000_000


class ChunkError(ValueError):
    """A chunk that is refused as a whole; what was planned goes on."""


@dataclass(frozen=True)
class Splice:
    """What became of a chunk's actions.

    Attributes:
        late: actions dropped because the motion is past them.
        faded: actions blended with what was planned for the same latent frames.
        appended: actions after all that was planned.
        wait_ns: how long the arms will hold before them.
        duplicate: the chunk, or a newer one, is known; nothing changed.
    """

    late: int = 0
    faded: int = 0
    appended: int = 0
    wait_ns: int = 0
    duplicate: bool = False


@dataclass(frozen=True)
class Window:
    """What is due in this control period and the following ones, as long as motion is planned.

    Attributes:
        values: action vectors, float64 [periods, values].
        velocities: their change until the next period per second, float64 [periods, values]; 0 where the motion ends.
        chunk: the chunk that the first one comes from.
        index: the action within that chunk.
    """

    values: np.ndarray
    velocities: np.ndarray
    chunk: int
    index: int


class Timeline:
    """Action chunks on the motion clock, whose time is that of the command that is being sent.

    Call `advance` once in every control period, with the instant for which its command is meant, then `window`.

    Attributes:
        plan: all that is due, from the last action that was sent on.
        instant_ns: the instant of the last `advance`; None before the first.
        motion_ns: motion time at that instant.
        resumed: when the motion went on after a hold since the `advance` before: instant and motion time; else None.
        reached_ns: when the motion time was reached: `instant_ns`, or earlier where the motion ended before that.
        speed: at which the motion goes, 0 to 1.
    """

    def __init__(
        self,
        layout: ActionLayout,
        period_ns: int,
        actions_per_latent: int,
        max_wait_s: float = 2.0,
        max_age_s: float = 2.0,
        ramp_s: float = 0.0,
    ) -> None:
        """Plan nothing.

        Args:
            layout: what is where in an action vector.
            period_ns: control period.
            actions_per_latent: actions in a latent frame.
            max_wait_s: a chunk that begins so long after the motion before it is refused.
            max_age_s: a chunk that was to begin so long before the motion is refused.
            ramp_s: time that a change of speed from 0 to 1 or back takes.
        """
        self.layout, self.period_ns, self.actions_per_latent = layout, period_ns, actions_per_latent
        self._max_wait_ns, self._max_age_ns = round(max_wait_s * NANOSECONDS), round(max_age_s * NANOSECONDS)
        self._ramp_ns = ramp_s * NANOSECONDS
        self.instant_ns: int | None = None
        self.reached_ns: int | None = None
        self.resumed: tuple[int, int] | None = None
        self.speed = 1.0
        self.clear()

    def clear(self) -> None:
        """Forget all that is planned and which chunks came."""
        self.motion_ns = self.instant_ns
        self._newest_chunk = -1
        self._set(Plan.empty(self.layout.size))

    @property
    def lag_ns(self) -> int:
        """How far the motion is behind the clock; 0 where nothing is due."""
        return 0 if self.instant_ns is None else self.instant_ns - self.motion_ns

    @property
    def holding(self) -> bool:
        """Whether nothing is due now."""
        end, start = self._next(self._ends, self.motion_ns), self._next(self._starts, self.motion_ns)
        return end is None or (start is not None and start < end)

    def advance(self, instant_ns: int, speed: float = 1.0, most_ns: int | None = None) -> None:
        """Let time pass until the instant of the next command, at a speed from 0 (paused) to 1.

        The motion stops exactly at its end, so that the last action is sent whole. Of the time in which the caller was
        held up, no more than two control periods are caught up with: the arms stood still for the rest. Arms that went
        on by themselves did so for `most_ns`, at the speed before; the speed changes in the last control period only.

        Raises:
            ValueError: the speed is not within 0 and 1.
        """
        if not 0 <= speed <= 1:
            raise ValueError(f'the speed is {speed}; it must be from 0 to 1')
        self.resumed = None
        if self.instant_ns is None:
            self.instant_ns = self.motion_ns = instant_ns
        before, self.instant_ns = self.instant_ns, max(instant_ns, self.instant_ns)
        self.reached_ns = self.instant_ns
        end, start = self._next(self._ends, self.motion_ns + 1), self._next(self._starts, self.motion_ns + 1)
        if end is None:
            self.motion_ns, self.speed = self.instant_ns, speed
            return
        if start is not None and start < end:
            if self.instant_ns <= start:
                self.motion_ns, self.speed = self.instant_ns, speed
                return
            before = max(before, start)
            self.resumed = before, start
            self.motion_ns, self.speed = start, speed
        elapsed = min(self.instant_ns - before, 2 * self.period_ns if most_ns is None else most_ns)
        played = max(elapsed - self.period_ns, 0) if most_ns is not None else 0  # by the arms, as it was planned before
        step, left = round(self.speed * played), end - self.motion_ns
        most = (elapsed - played) / self._ramp_ns if self._ramp_ns else 1.0
        self.speed += min(max(speed - self.speed, -most), most)
        step += round(self.speed * (elapsed - played))
        if step > left:
            self.reached_ns = before + (self.instant_ns - before) * left // step
        self.motion_ns += min(step, left)

    def window(self, periods: int) -> Window | None:
        """Return what is due now and in the next control periods at this speed; None: nothing is due now, hold."""
        if self.holding:
            return None
        end = self._next(self._ends, self.motion_ns)
        step = round(self.speed * self.period_ns)
        ahead = periods if step == 0 else min(-((self.motion_ns - end) // step), periods)
        times = np.minimum(self.motion_ns + step * np.arange(ahead + 1), end)
        values = self.plan.interpolate(times, self.layout)
        velocities = np.zeros_like(values)
        np.subtract(values[1:], values[:-1], out=velocities[:-1])
        velocities /= self.period_ns / NANOSECONDS
        now = bisect_left(self._due, self.motion_ns)
        chunk, index = int(self.plan.chunks[now]), int(self.plan.indices[now])
        return Window(values[:periods], velocities[:periods], chunk, index)

    def splice(
        self,
        first_latent_index: int,
        start_ns: int,
        dt_ns: int,
        actions: np.ndarray,
        chunk: int,
        sent: np.ndarray | None = None,
    ) -> Splice:
        """Add a chunk to the plan.

        One that follows what is planned goes on where that ends, or at its stamp where that is later by half a control
        period or more. One that begins earlier replaces the plan of the latent frames that they share, from what was
        sent last on; blending the two makes the seam smooth.

        Args:
            first_latent_index: latent frame that the first action belongs to.
            start_ns: when that frame is to begin, on the clock; without lag, action k is due (k + 1) dt later.
            dt_ns: time per action; longer than the control period to move more slowly.
            actions: action vectors [latent frames * actions per latent, values].
            chunk: counts up.
            sent: the last command as an action vector, where motion begins after a hold; without it, at the last
                action or, if there was none, at once at the first.

        Raises:
            ChunkError: it cannot be carried out or its time is absurd; the message says why, nothing has changed.
        """
        if self.motion_ns is None:
            raise ChunkError('no command was sent yet, so there is nothing to go on from')
        if chunk <= self._newest_chunk:
            return Splice(duplicate=True)
        self._check(start_ns, dt_ns, len(actions))
        first = first_latent_index * self.actions_per_latent
        if self._due and first + len(actions) <= self._done():
            self._checked(actions, None)
            self._newest_chunk = chunk
            return Splice(late=len(actions))
        if self._due and (gap := round((first - self.plan.progress[-1]) / self.actions_per_latent)) > 0:
            raise ChunkError(f'the chunk begins with latent frame {first_latent_index}, but {gap} before it never came')
        begin, seam, kept = self._place(first, start_ns, dt_ns)
        due = begin + dt_ns * np.arange(1, len(actions) + 1)
        late = int(np.count_nonzero(due <= seam))
        moving = len(kept.due) > 0 and (kept.due[-1] == seam or (seam == self.motion_ns and not self.holding))
        origin = self._origin(seam, kept, moving, sent)
        actions = self._checked(actions, origin)
        self._newest_chunk = chunk
        index = np.arange(len(due))
        new = Plan(due, actions, first + 1.0 + index, np.full_like(due, chunk), index, np.full_like(due, ACTION))[late:]
        faded = self._fade(new, seam) if moving and seam < self._ends[-1] else 0
        if not moving or kept.due[-1] != seam:
            value = new.values[0] if origin is None else origin
            progress = self._done() if moving else new.progress[0] - 1
            kept += Plan.knot(seam, value, progress, chunk, SEAM if moving else START)
        self._set(kept + new)
        return Splice(late, faded, len(new.due) - faded, 0 if moving else seam - self.motion_ns)

    def _check(self, start_ns: int, dt_ns: int, actions: int) -> None:
        """Refuse what cannot be placed on the motion clock."""
        if not self.period_ns <= dt_ns <= MAX_ACTION_NS:
            raise ChunkError(
                f'an action lasts {dt_ns / 1e6:g} ms; it must last from {self.period_ns / 1e6:g} (the control period) '
                f'to {MAX_ACTION_NS / 1e6:g} ms'
            )
        if not actions or actions % self.actions_per_latent:
            raise ChunkError(f'{actions} actions are no latent frames of {self.actions_per_latent} actions each')
        planned = len(self.plan.due)
        if planned + actions > MAX_PLANNED:
            raise ChunkError(f'{planned} actions are planned, and {actions} more would exceed {MAX_PLANNED}')
        late = self.motion_ns - start_ns
        if late > self._max_age_ns:
            raise ChunkError(
                f'the chunk was to begin {late / 1e9:.3f} s ago; one older than {self._max_age_ns / 1e9:g} s is refused'
            )
        wait = start_ns - self._end - self.lag_ns
        if wait > self._max_wait_ns:
            raise ChunkError(
                f'the chunk begins {wait / 1e9:.3f} s after the motion before it; longer waits than '
                f'{self._max_wait_ns / 1e9:g} s are refused'
            )

    def _checked(self, actions: np.ndarray, origin: np.ndarray | None) -> np.ndarray:
        try:
            return self.layout.check(actions, origin)
        except ActionError as error:
            raise ChunkError(str(error)) from error

    def _place(self, first: int, start_ns: int, dt_ns: int) -> tuple[int, int, Plan]:
        """Find the place of a chunk whose first action is `first`.

        Returns:
            The motion time at which it begins; the one from which on it is executed, as what was sent of it already is
            not sent again; and what stays of the plan, at least the last action sent.
        """
        passed = bisect_right(self._due, self.motion_ns)
        sent = max(passed - 1, 0)
        if not self._due or first >= self.plan.progress[-1]:
            begin = self._end if start_ns <= self._end + self.lag_ns + self._tolerance_ns else start_ns
            return begin, begin, self.plan[sent:]
        done = self._done()
        if first <= done:
            ago = round((done - first) * dt_ns)
            seam = max(self.motion_ns, start_ns + ago) if self.holding else self.motion_ns
            return seam - ago, seam, self.plan[sent:passed]
        row = int(np.searchsorted(self.plan.progress, first, side='right'))
        return self._due[row - 1], self._due[row - 1], self.plan[sent:row]

    def _done(self) -> float:
        """Actions since latent frame 0 that the motion has passed, the part of the one in execution included."""
        return float(np.interp(0, self.plan.due - self.motion_ns, self.plan.progress))

    def _origin(self, seam: int, kept: Plan, moving: bool, sent: np.ndarray | None) -> np.ndarray | None:
        """Where the motion is when a chunk begins at `seam`, moving or at rest; None where nobody knows."""
        if moving:
            return self.plan.interpolate(np.array([seam]), self.layout)[0]
        if sent is not None and not (len(kept.due) and kept.due[-1] > self.motion_ns):
            return sent
        before = kept if len(kept.due) else self.plan
        return before.values[-1 if len(kept.due) else 0] if len(before.due) else None

    def _fade(self, new: Plan, seam: int) -> int:
        """Blend new actions into those planned for the same latent frames, in place; return how many were blended.

        The same actions, not the same times: where the new plan is slower, the old one must not hurry ahead of it.
        """
        begin = float(np.interp(0, self.plan.due - seam, self.plan.progress))
        end = min(self.plan.progress[-1], new.progress[-1])
        both = int(np.searchsorted(new.progress, end))
        if both:
            weight = (new.progress[:both] - begin) / (end - begin)
            old = self.plan.at_progress(new.progress[:both], self.layout)
            new.values[:both] = self.layout.crossfade(old, new.values[:both], weight)
        return both

    def _set(self, plan: Plan) -> None:
        """Take a plan, and note the times at which motion starts after a hold and ends."""
        self.plan, self._due = plan, plan.due.tolist()
        starts = plan.kinds == START
        self._starts = plan.due[starts].tolist()
        self._ends = plan.due[np.append(starts[1:], True)].tolist() if len(starts) else []

    @property
    def _end(self) -> int:
        """Motion time at which nothing more is planned."""
        return max(self.motion_ns, self._ends[-1]) if self._ends else self.motion_ns

    @property
    def _tolerance_ns(self) -> int:
        """Less than half a control period after motion that is not over: its end was rounded, and no wait is meant."""
        return (self.period_ns - 1) // 2 if self._ends and self._ends[-1] >= self.motion_ns else 0

    @staticmethod
    def _next(times: list[int], earliest: int) -> int | None:
        """Return the first of increasing times that is not before `earliest`."""
        i = bisect_left(times, earliest)
        return times[i] if i < len(times) else None
