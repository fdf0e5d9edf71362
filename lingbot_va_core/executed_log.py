"""What was really sent, latent frame by latent frame, on the motion clock."""

from dataclasses import dataclass

import numpy as np

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.motion import Timeline
from lingbot_va_core.plan import ACTION, SEAM


@dataclass(frozen=True)
class ExecutedFrame:
    """What was in force during one latent frame.

    Attributes:
        latent_index: the latent frame.
        chunk: the chunk that was being executed at its end.
        begin_ns: the instant at which its motion began.
        dt_ns: motion time per action.
        video_stamps: instants at which its video frames were due, oldest first; the last is its end.
        actions: action vectors [actions per latent, values]; k was in force when (k + 1) actions' motion was done.
        limited: actions that a limit had changed.
        held: actions during which the arms had to stand still.
    """

    latent_index: int
    chunk: int
    begin_ns: int
    dt_ns: int
    video_stamps: tuple[int, ...]
    actions: np.ndarray
    limited: int
    held: int


class ExecutedLog:
    """Collects what was sent while a time line advances. It keeps one latent frame, however long that takes."""

    def __init__(self, timeline: Timeline) -> None:
        """Report on the actions of a time line."""
        self._timeline = timeline
        rows = timeline.actions_per_latent
        self._per_video = rows // VIDEO_FRAMES_PER_LATENT
        self._actions = np.empty((rows, timeline.layout.size))
        self._passed = [0] * rows  # the instant at which each action of the frame was done
        self._flags = np.zeros((rows, 2), dtype=bool)
        self._sent: np.ndarray | None = None
        self.clear()

    def clear(self) -> None:
        """Forget the frame in progress; to be called after the time line was cleared."""
        self._instant, self._motion = self._timeline.instant_ns, self._timeline.motion_ns  # of the command before
        self._row = self._noted = 0  # actions since latent frame 0 that are done, and those of them in this frame
        self._begin = self._left = 0  # instants: the frame's beginning, the end of the last action
        self._limited = self._held = False  # since the last action

    def add(self, action: np.ndarray, limited: bool, held: bool) -> list[ExecutedFrame]:
        """Note the command for the instant to which the time line was advanced; return frames that are complete.

        Args:
            action: as sent, an action vector [values]; it is not copied and must not be changed later.
            limited: a limit changed it.
            held: the arms stood still although an action was due, as when they are paused.
        """
        line = self._timeline
        self._limited, self._held = self._limited or limited, self._held or held
        if line.holding or self._sent is None:
            self._limited = self._held = False
        frames = []
        if self._sent is not None:
            if line.resumed:
                self._instant, self._motion = line.resumed
            if line.motion_ns > self._motion:
                frames = self._move(action, limited, held)
        self._instant, self._motion, self._sent = line.instant_ns, line.motion_ns, action
        return frames

    def _move(self, action: np.ndarray, limited: bool, held: bool) -> list[ExecutedFrame]:
        """Go through what the motion has passed since the command before."""
        plan, motion, frames = self._timeline.plan, self._timeline.motion_ns, []
        first, last = np.searchsorted(plan.due, (self._motion, motion)).tolist()
        for i in range(first, min(last + 1, len(plan.due))):
            due, kind = int(plan.due[i]), plan.kinds[i]
            if kind == ACTION and self._motion < due <= motion:
                self._note(i, due, action)
                beyond = due < motion
                self._limited, self._held = limited and beyond, held and beyond
                if self._row % len(self._actions) == 0:
                    frames += self._report(i)
            if kind != SEAM and due < motion:
                self._left = self._when(due)
        return frames

    def _note(self, i: int, due: int, action: np.ndarray) -> None:
        """Note what was in force when the action in row i of the plan was done."""
        row = round(self._timeline.plan.progress[i])
        k = (row - 1) % len(self._actions)
        if k == 0:
            self._begin, self._noted = self._left, 0
        self._noted += row == self._row + 1 or k == 0
        self._row = row
        fraction = np.array((due - self._motion) / (self._timeline.motion_ns - self._motion))
        self._actions[k] = self._timeline.layout.interpolate(self._sent, action, fraction)
        self._passed[k] = self._when(due)
        self._flags[k] = self._limited, self._held

    def _report(self, i: int) -> list[ExecutedFrame]:
        """Return the frame that ended with row i of the plan, if all of its actions were noted."""
        rows, plan = len(self._actions), self._timeline.plan
        if self._noted != rows:
            return []
        span = (plan.due[i] - plan.due[i - 1]) / (plan.progress[i] - plan.progress[i - 1])
        limited, held = self._flags.sum(axis=0).tolist()
        return [ExecutedFrame(
            latent_index=self._row // rows - 1,
            chunk=int(plan.chunks[i]),
            begin_ns=self._begin,
            dt_ns=round(span),
            video_stamps=tuple(self._passed[self._per_video - 1 :: self._per_video]),
            actions=self._actions.copy(),
            limited=limited,
            held=held,
        )]  # fmt: skip

    def _when(self, motion_ns: int) -> int:
        """Return the instant of a motion time since the command before."""
        elapsed, moved = self._timeline.reached_ns - self._instant, self._timeline.motion_ns - self._motion
        return self._instant + (motion_ns - self._motion) * elapsed // moved
