"""Sampling several cameras at the video clock."""

from collections import deque
from dataclasses import dataclass
from typing import Any

MAX_SLEW_NS = 2_000_000  # how fast the video clock follows the reference camera, per frame
GRACE_FRAMES = 2  # frames of the reference for which a late camera is waited for


@dataclass(frozen=True)
class FrameSet:
    """One frame per camera at one video frame time.

    Attributes:
        stamp_ns: stamp of the reference camera's frame.
        frames: what was pushed, in camera order.
        held: number of cameras whose last frame had to be repeated.
        skipped: video frames that went missing just before this one.
    """

    stamp_ns: int
    frames: tuple[Any, ...]
    held: int
    skipped: int


class FrameSampler:
    """Picks, for every tick of the video clock, one frame of each camera.

    The first camera is the reference: a tick takes its first frame that is at most a quarter period early, and the
    clock slowly follows its stamps, so that a camera at the video rate contributes every frame and a faster one is
    subsampled. The other cameras contribute the frame nearest to the reference stamp. One that has none within half a
    period, and is silent for two more frames of the reference, repeats its last (one that never sent anything blocks).
    """

    def __init__(self, cameras: int, period_ns: int) -> None:
        self._period = period_ns
        self._buffers: list[deque[tuple[int, Any]]] = [deque(maxlen=16) for _ in range(cameras)]
        self._next_tick: int | None = None
        self._last_stamp: int | None = None
        self._pending: deque[tuple[int, Any]] = deque(maxlen=16)  # frames of the reference

    def push(self, camera: int, stamp_ns: int, frame: Any) -> list[FrameSet]:
        """Add a frame; return the sets that it completes, oldest first.

        A stamp that is not newer than the camera's last one is ignored, but for a jump back by more than a second
        (the clock was restarted), which starts afresh.
        """
        buffer = self._buffers[camera]
        if buffer and stamp_ns <= buffer[-1][0]:
            if buffer[-1][0] - stamp_ns < 1_000_000_000:
                return []
            self.__init__(len(self._buffers), self._period)
            buffer = self._buffers[camera]
        buffer.append((stamp_ns, frame))
        if camera == 0:
            self._tick(stamp_ns, frame)
        return self._complete()

    def _tick(self, stamp: int, frame: Any) -> None:
        if self._next_tick is None or stamp - self._next_tick > 16 * self._period:
            self._next_tick = stamp
        if stamp < self._next_tick - self._period // 4:
            return
        late = max(0, (stamp - self._next_tick + self._period // 4) // self._period)
        error = stamp - self._next_tick - late * self._period
        self._next_tick += (late + 1) * self._period + max(-MAX_SLEW_NS, min(MAX_SLEW_NS, error))
        self._pending.append((stamp, frame))

    def _complete(self) -> list[FrameSet]:
        sets = []
        while self._pending:
            stamp, frame = self._pending[0]
            others = [self._choose(buffer, stamp) for buffer in list(self._buffers)[1:]]
            if any(choice is None for choice in others):
                break
            self._pending.popleft()
            skipped = 0
            if self._last_stamp is not None:
                skipped = max(0, round((stamp - self._last_stamp) / self._period) - 1)
            self._last_stamp = stamp
            frames = (frame, *(choice[0] for choice in others))
            sets.append(FrameSet(stamp, frames, sum(choice[1] for choice in others), skipped))
        return sets

    def _choose(self, buffer: deque[tuple[int, Any]], stamp: int) -> tuple[Any, bool] | None:
        """Return the camera's frame for a reference stamp and whether it is stale; None while it may still come."""
        if not buffer:
            return None
        nearest_stamp, frame = min(buffer, key=lambda entry: abs(entry[0] - stamp))
        near = abs(nearest_stamp - stamp) <= self._period // 2
        # A frame at or after the stamp cannot be beaten by later ones, nor can one that is all but simultaneous.
        if near and (buffer[-1][0] >= stamp or stamp - nearest_stamp <= self._period // 16):
            return frame, False
        if buffer[-1][0] < stamp + self._period // 2 and len(self._pending) <= GRACE_FRAMES:
            return None
        return frame, not near
