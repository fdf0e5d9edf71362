"""Brings recorded cameras, joints and actions onto the latent clock, with the sampler of the live perception."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.sampling import FrameSampler, FrameSet
from lingbot_va_core.tracks import CommandTrack, JointTrack

CAMERA_TIMEOUT_NS = NANOSECONDS // 2  # perception's default: a silent camera is waited for so long
MAX_HELD = 2  # perception's default: so many instants in a row may repeat an image
MAX_JOINT_GAP_NS = NANOSECONDS // 5  # measured positions are not interpolated over more
HISTORY_NS = 10 * NANOSECONDS  # of joints; cameras keep as many images as perception
SETTLE_NS = NANOSECONDS // 5  # a sample that comes so late still counts at its stamp
FOLD_NS = 2 * NANOSECONDS  # commands are kept so long while no frame is asked for; no first frame is so old


class CutError(Exception):
    """The stretch of data ends here, in one line; `instant_ns` says when."""

    def __init__(self, instant_ns: int, reason: str) -> None:
        super().__init__(reason)
        self.instant_ns = instant_ns


@dataclass(frozen=True)
class Row:
    """A video frame and the control periods that end with it.

    Attributes:
        instant_ns: what was asked for.
        first: of its stretch.
        stamp_ns: of the reference camera's image.
        frames: what was pushed, in camera order.
        held: cameras whose image repeats an earlier or later one because none is near.
        states: measured joints, float64 [steps, joints], the last one at the frame; [1, joints] at the first frame.
        actions: universal, float32 [steps, 30], of a motion that was reported; None at the first frame.
        commands: joints as `states`, where the motion is that of commands; nan for those that need none.
        track: at a first frame of such motion, all that was commanded until then.
    """

    instant_ns: int
    first: bool
    stamp_ns: int
    frames: tuple[Any, ...]
    held: int
    states: np.ndarray
    actions: np.ndarray | None = None
    commands: np.ndarray | None = None
    track: CommandTrack | None = None


class Resampler:
    """Collects what is needed for each video frame and returns it when it is complete.

    Args:
        cameras, joints: their names, for messages.
        period_ns: video period.
        commanded: bool [joints], those that must be commanded where the motion is that of commands; None where it is
            reported with `ask`.
        initial: what was commanded before.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        period_ns: int,
        joints: Sequence[str],
        commanded: np.ndarray | None = None,
        initial: CommandTrack | None = None,
    ) -> None:
        self._camera_names, self._joint_names, self._commanded = list(cameras), list(joints), commanded
        self._sampler = FrameSampler(len(cameras), period_ns, MAX_HELD)
        self.joints = JointTrack(len(joints), MAX_JOINT_GAP_NS, HISTORY_NS)
        self.commands = CommandTrack(len(joints)) if initial is None else initial.copy()
        self._due: deque[tuple[tuple[int, ...], np.ndarray | None]] = deque()
        self._sampled: deque[FrameSet] = deque()
        self._beginning = False

    def clear(self) -> None:
        """Forget everything, as when the clock has jumped; what is commanded stays in force."""
        self._sampler.clear()
        self.joints.clear()
        self.commands.restart()
        self._due.clear()
        self._sampled.clear()

    def begin(self, after_ns: int) -> None:
        """Look for the first frame of another stretch."""
        self._sampler.begin(after_ns)
        self._due.clear()
        self._sampled.clear()
        self._beginning = True

    @property
    def waiting(self) -> bool:
        """Whether a frame is asked for, or the first one sought, that was not returned yet."""
        return self._beginning or bool(self._due)

    def push(self, camera: int, stamp_ns: int, frame: Any) -> None:
        """Add an image, in whatever form."""
        self._sampler.push(camera, stamp_ns, frame)

    def ask(self, steps: tuple[int, ...], actions: np.ndarray | None = None) -> None:
        """Ask for a frame at the last of the instants `steps`, the ends of control periods, increasing.

        `actions`, universal [steps, 30], were in force at these instants; without them the commands count.
        """
        self._due.append((steps, actions))
        self._sampler.ask(steps[-1:])

    def fold(self, now_ns: int) -> None:
        """Let commands come into force that no frame will be asked for before, so that they do not pile up."""
        if not self._due and not self._sampled:
            self.commands.pass_by(now_ns - FOLD_NS)

    def take(self, now_ns: int, end: bool = False) -> list[Row]:
        """Return the frames that are complete at `now_ns`, the newest stamp; with `end` nothing more will come.

        Raises:
            CutError: a frame cannot be completed; `begin` goes on behind it.
        """
        self._sampled.extend(self._sampler.take(now_ns if end else now_ns - CAMERA_TIMEOUT_NS))
        rows: list[Row] = []
        while self._sampled:
            frames = self._sampled[0]
            instant = frames.instant_ns
            settled = end or now_ns >= instant + SETTLE_NS
            if not settled and (self._commanded is not None or not self.joints.covers(instant)):
                break
            try:
                row = self._row(frames)
            except CutError:
                if rows:  # those before it first; the next call comes here again
                    return rows
                raise
            self._sampled.popleft()
            rows.append(row)
        return rows

    def _row(self, frames: FrameSet) -> Row:
        if frames.missing:
            names = ', '.join(self._camera_names[camera] for camera in frames.missing)
            raise CutError(frames.instant_ns, f'no image of {names} near more than {MAX_HELD} video frames in a row')
        steps, actions = ((frames.instant_ns,), None) if self._beginning else self._due[0]
        early = self._commanded is None  # a report says when it began; commands may begin a little later
        states = np.stack([self.joints.at(instant, early) for instant in steps])
        self._require(frames.instant_ns, states, np.ones(len(self._joint_names), dtype=bool), 'measured position')
        commands = None
        if self._commanded is not None:
            commands = np.stack([self.commands.at(instant) for instant in steps])
            self._require(frames.instant_ns, commands, self._commanded, 'command')
        first, self._beginning = self._beginning, False
        if not first:
            self._due.popleft()
        track = self.commands.copy() if first and commands is not None else None
        return Row(
            frames.instant_ns, first, frames.stamp_ns, frames.frames, frames.held, states, actions, commands, track
        )

    def _require(self, instant_ns: int, values: np.ndarray, wanted: np.ndarray, what: str) -> None:
        lacking = wanted & ~np.isfinite(values).all(axis=0)
        if lacking.any():
            names = [name for name, lacks in zip(self._joint_names, lacking, strict=True) if lacks]
            shown = ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')
            raise CutError(instant_ns, f'no {what} of {shown}')
