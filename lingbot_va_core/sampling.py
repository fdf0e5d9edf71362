"""Sampling several cameras at the instants of the motion."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

CAPACITY = 64  # frames that are kept of each camera
GRACE_FRAMES = 2  # video periods that the reference camera may be ahead of one that is waited for
SILENT_FRAMES = 4  # video periods; a camera that was given up and has sent nothing for longer is not waited for
RESTARTED_NS = 1_000_000_000  # stamps that fall back by more belong to a clock that was set back


@dataclass(frozen=True)
class FrameSet:
    """One frame of each camera, for one instant.

    Attributes:
        instant_ns: what was asked for.
        stamp_ns: stamp of the reference camera's frame; `instant_ns` where that is missing.
        frames: what was pushed, in camera order: the nearest of each; None of a camera that sent nothing yet.
        held: number of cameras that had no frame near the instant, so that their nearest one was repeated.
        missing: cameras that are given up: they have had no frame near too many instants one after another, or none at
            all. A near frame brings them back.
    """

    instant_ns: int
    stamp_ns: int
    frames: tuple[Any, ...]
    held: int = 0
    missing: tuple[int, ...] = ()


class _Frame(NamedTuple):
    stamp_ns: int
    interval_ns: int  # to the camera's frame before, at most a video period; 0: there is none
    reach_ns: int  # for so long after its stamp no later frame can be expected to be nearer
    content: Any


class FrameSampler:
    """Picks, for instants that it is asked for, the nearest frame of each camera. It owns no clock.

    The first camera that is not given up is the reference. A frame is near when it is at most 5/8 of a video period
    away, so that a camera at the video rate, in any phase and with some jitter, always has one. A camera whose next
    frame could be nearer, if it comes as soon as those before, is waited for until the reference is two periods ahead,
    or until the caller gives up. One without a near frame repeats its nearest; after `max_held` instants one after
    another it is given up. Where frames come in time, stamps alone decide what is picked, not when it is asked for.

    Args:
        cameras: number of cameras.
        period_ns: video period.
        max_held: instants for which a frame may be repeated.

    Attributes:
        dropped: frames that went missing so far, all cameras: in a gap between two stamps, how many more fit at the
            video rate.
    """

    def __init__(self, cameras: int, period_ns: int, max_held: int) -> None:
        self._period, self._max_held = period_ns, max_held
        self._buffers: list[deque[_Frame]] = [deque(maxlen=CAPACITY) for _ in range(cameras)]
        self._held = [0] * cameras  # instants in a row
        self._first_after: int | None = None
        self._complete = True
        self._asked: deque[int] = deque()
        self.dropped = 0

    def push(self, camera: int, stamp_ns: int, frame: Any) -> None:
        """Add a frame. A stamp that is not newer than the camera's last is ignored, unless the clock was set back."""
        buffer = self._buffers[camera]
        if buffer and stamp_ns <= buffer[-1].stamp_ns:
            if buffer[-1].stamp_ns - stamp_ns <= RESTARTED_NS:
                return
            self.clear()
        interval = soonest = 0
        if buffer:
            last = buffer[-1]
            interval = stamp_ns - last.stamp_ns
            if interval > 1.5 * self._period:
                self.dropped += round(interval / self._period) - 1
            interval = min(interval, self._period)
            soonest = min(interval, last.interval_ns or interval)  # of two, because one may follow a lost frame
        buffer.append(_Frame(stamp_ns, interval, max(soonest // 2, self._period // 16), frame))

    def clear(self) -> None:
        """Forget all frames and the instants that are still open: they are of a time that will come again."""
        for buffer in self._buffers:
            buffer.clear()
        self._asked.clear()

    @property
    def newest_ns(self) -> int | None:
        """Newest stamp of all cameras."""
        return max((buffer[-1].stamp_ns for buffer in self._buffers if buffer), default=None)

    def begin(self, after_ns: int, complete: bool = True) -> None:
        """Ask for the first set: a reference frame not before `after_ns` that every camera has a frame near to.

        Unless it is to be `complete`, cameras that send nothing are given up when it is overdue.
        """
        self._first_after, self._complete = after_ns, complete
        self._asked.clear()
        self._held = [0] * len(self._buffers)

    def ask(self, instants: Iterable[int]) -> None:
        """Ask for sets at instants, in increasing order."""
        self._asked.extend(instants)

    def take(self, overdue_ns: int) -> list[FrameSet]:
        """Return the sets that are complete, in the order asked for; instants up to `overdue_ns` wait no longer."""
        sets = []
        if self._first_after is not None:
            first = self._first_set(overdue_ns)
            if first is None:
                return []
            self._first_after = None
            sets.append(first)
        while self._asked:
            instant = self._asked[0]
            cameras = range(len(self._buffers))
            if instant > overdue_ns and any(self._may_get_nearer(camera, instant) for camera in cameras):
                break
            sets.append(self._set(self._asked.popleft()))
        return sets

    def _first_set(self, overdue_ns: int) -> FrameSet | None:
        if not self._complete and self._buffers and overdue_ns >= self._first_after:
            for camera in range(len(self._buffers)):
                if self._silent(camera, max(self._first_after, self.newest_ns or 0)):
                    self._held[camera] = self._max_held + 1
        reference = self._reference()
        others = [i for i in range(len(self._buffers)) if i != reference and not self._given_up(i)]
        for stamp in (frame.stamp_ns for frame in self._buffers[reference]):
            if stamp < self._first_after:
                continue
            if any(self._may_get_nearer(camera, stamp) for camera in others):
                return None
            if all(self._near(camera, stamp) for camera in others):
                return self._set(stamp)
        return None

    def _set(self, instant: int) -> FrameSet:
        for camera in range(len(self._buffers)):
            self._held[camera] = 0 if self._near(camera, instant) else self._held[camera] + 1
        missing = tuple(camera for camera, buffer in enumerate(self._buffers) if not buffer or self._given_up(camera))
        held = sum(count > 0 for count in self._held)
        frames = [self._nearest(camera, instant) if buffer else None for camera, buffer in enumerate(self._buffers)]
        stamp = instant if 0 in missing else frames[0].stamp_ns
        return FrameSet(instant, stamp, tuple(frame and frame.content for frame in frames), held, missing)

    def _nearest(self, camera: int, instant: int) -> _Frame:
        buffer = self._buffers[camera]
        reaching = (frame for frame in buffer if frame.stamp_ns <= instant <= frame.stamp_ns + frame.reach_ns)
        return next(reaching, None) or min(buffer, key=lambda frame: abs(frame.stamp_ns - instant))

    def _near(self, camera: int, instant: int) -> bool:
        if not self._buffers[camera]:
            return False
        return abs(self._nearest(camera, instant).stamp_ns - instant) <= 5 * self._period // 8

    def _may_get_nearer(self, camera: int, instant: int) -> bool:
        """Whether it is worth waiting for the camera's next frame."""
        buffer, reference = self._buffers[camera], self._buffers[self._reference()]
        if buffer and buffer[-1].stamp_ns + buffer[-1].reach_ns >= instant:
            return False
        if self._given_up(camera) and self._silent(camera, instant):
            return False
        return not reference or reference[-1].stamp_ns < instant + GRACE_FRAMES * self._period

    def _given_up(self, camera: int) -> bool:
        return self._held[camera] > self._max_held

    def _silent(self, camera: int, instant: int) -> bool:
        buffer = self._buffers[camera]
        return not buffer or buffer[-1].stamp_ns < instant - SILENT_FRAMES * self._period

    def _reference(self) -> int:
        return next((camera for camera in range(len(self._buffers)) if not self._given_up(camera)), 0)
