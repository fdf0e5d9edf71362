"""An episode in virtual time: the closed loop, the pacing and the commands of the nodes, with a stated latency.

The clock advances by control periods of the robot, however long anything takes to compute, so that results do not
depend on the machine and are the same to the bit.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.command_planner import CommandPlanner
from lingbot_va_core.episode_poses import EpisodePoses
from lingbot_va_core.executed_log import ExecutedFrame
from lingbot_va_core.pacing import Pacer, Placement
from lingbot_va_core.session import Chunk, Session


class Plant(Protocol):
    """A robot in its world, advanced by one control period at a time."""

    @property
    def success(self) -> bool:
        """Whether the task is solved now."""

    def measured(self) -> np.ndarray:
        """Joint positions, float64 [joints], rad or m."""

    def images(self) -> Sequence[Any]:
        """What the cameras see now, in the form that the `Encoder` takes."""

    def command(self, joints: np.ndarray) -> None:
        """Take the joint positions, float64 [joints], to be reached at the end of the next period."""

    def step(self) -> None:
        """Advance by one control period."""


class Encoder(Protocol):
    """Makes latents of images, such as `StreamingEncoder`."""

    def reset(self) -> None:
        """Forget the past."""

    def encode(self, frames: Sequence[Sequence[Any]]) -> Tensor:
        """Encode one set of images after a reset, then four at a time; [1, C, h, w]."""


@dataclass(frozen=True)
class ExecutedChunk:
    """A chunk whose motion is done, with its times.

    Attributes:
        chunk: as predicted.
        began_ns, done_ns: of its prediction.
        placement: when it was to be executed, and how much motion was left when it came.
        start_ns, end_ns: of its motion.
    """

    chunk: Chunk
    began_ns: int
    done_ns: int
    placement: Placement
    start_ns: int
    end_ns: int


@dataclass
class _Pending:
    """A chunk that is being predicted or executed."""

    chunk: Chunk
    began_ns: int
    done_ns: int
    placement: Placement | None = None
    start_ns: int = 0


class VirtualEpisode:
    """Runs one session on one plant.

    Attributes:
        now_ns: virtual time, from 0 at the beginning of an episode.
        succeeded: whether the plant reported success, which ends the episode.
        refused: why a gross target was not followed, which ends it, too, as it does on the robot; or ''.
    """

    def __init__(
        self,
        session: Session,
        pacer: Pacer,
        planner: CommandPlanner,
        plant: Plant,
        encoder: Encoder,
        latency_ns: int | Callable[[int], int],
        observation_ns: int = 0,
        relative_poses: bool = False,
    ) -> None:
        """Connect the parts.

        Args:
            session: predicts.
            pacer: of the same mode.
            planner: of the robot, as its action node has it; it begins anew with every episode.
            plant: the robot.
            encoder: of the session's model.
            latency_ns: how long a prediction takes, or a function of the chunk's number that says so.
            observation_ns: time from the newest image of a latent frame until the session knows it.
            relative_poses: poses in the session's actions are relative to where the episode begins.
        """
        self._session, self._pacer, self._plant, self._encoder = session, pacer, plant, encoder
        self._planner, self._profile, self._clock = planner, planner.profile, planner.profile.clock
        self._relative_poses = relative_poses
        self._latency_ns = latency_ns if callable(latency_ns) else lambda _chunk: latency_ns
        self._observation_ns = observation_ns
        self._per_video = self._clock.actions_per_latent // VIDEO_FRAMES_PER_LATENT

    def run(
        self, instruction: str, time_limit_ns: int | Callable[[], int], latent_frames: int | None = None
    ) -> Iterator[ExecutedChunk]:
        """Run an episode from the plant's present state on; yield each chunk as its motion ends.

        Args:
            instruction: what to do.
            time_limit_ns: virtual time after which the episode ends, or a function that says so whenever it is asked.
            latent_frames: predict no more once so many are planned, and end when they are executed; None: no limit.
        """
        limit_ns = time_limit_ns if callable(time_limit_ns) else lambda: time_limit_ns
        self._begin(instruction)
        while self.now_ns < limit_ns() and not self.succeeded and not self.refused:
            self._deliver()
            self._predict(latent_frames)
            for frame in self._move():
                yield from self._executed(frame)
                if frame.latent_index == latent_frames:
                    return
            self.succeeded = self._plant.success

    def _begin(self, instruction: str) -> None:
        self.now_ns, self.succeeded, self.refused = 0, False, ''
        self._session.start(instruction)
        self._pacer.restart()
        self._encoder.reset()
        self._planner.restart()
        self._planner.arm(self._plant.measured())
        self._poses = None
        if self._relative_poses:
            self._poses = EpisodePoses(self._profile.mask)
            self._poses.anchor(0, self._profile.to_universal(self._planner.action))
        self._predicting: _Pending | None = None
        self._moving: deque[_Pending] = deque()
        self._planned = 0  # the last latent frame that is planned
        self._images: list[Sequence[Any]] = []  # of the latent frame in execution
        self._videos = VIDEO_FRAMES_PER_LATENT  # video frames that the motion has passed; latent frame 0 has all of its
        self._latents: deque[tuple[int, int, Tensor]] = deque()  # stamp, index, latent: on their way
        self._latents.append((0, 0, self._encoder.encode([self._plant.images()])[0]))

    def _deliver(self) -> None:
        """Give the session the latents that have become known by now."""
        while self._latents and self._latents[0][0] + self._observation_ns <= self.now_ns:
            stamp_ns, index, latent = self._latents.popleft()
            self._session.observe(index, latent)
            self._pacer.observed(stamp_ns, stamp_ns + self._observation_ns)

    def _predict(self, latent_frames: int | None) -> None:
        """Take a chunk that is done by now; begin the next prediction if it cannot wait for the next period."""
        pending = self._predicting
        if pending is not None and pending.done_ns <= self.now_ns:
            self._predicting = None
            self._place(pending)
        wanted = latent_frames is None or self._planned < latent_frames
        due = self._pacer.begin_ns < self.now_ns + self._clock.action_ns
        if self._predicting is None and wanted and due and self._session.ready:
            chunk = self._session.predict()
            self._predicting = _Pending(chunk, self.now_ns, self.now_ns + self._latency_ns(chunk.index))

    def _place(self, pending: _Pending) -> None:
        """Plan the motion of a chunk."""
        chunk, frames = pending.chunk, len(pending.chunk.actions)
        pending.placement = placement = self._pacer.predicted(
            pending.began_ns, pending.done_ns, chunk.first_latent_index, frames
        )
        actions = chunk.actions.reshape(-1, chunk.actions.shape[-1])
        if self._poses is not None:
            actions = self._poses.absolute(actions)
        values = self._profile.from_universal(actions)
        self._planner.splice(chunk.first_latent_index, placement.start_ns, placement.dt_ns, values, chunk.index)
        self._moving.append(pending)
        self._planned = chunk.first_latent_index + frames - 1

    def _move(self) -> list[ExecutedFrame]:
        """Advance by one control period; return the latent frames whose motion is complete."""
        command = self._planner.step(self.now_ns, 1.0)
        self.now_ns += self._clock.action_ns
        self.refused = command.gross
        self._plant.command(self._planner.window.positions[0])
        self._plant.step()
        passed = self._videos_passed()
        for _ in range(self._videos, passed):
            self._images.append(self._plant.images())
        self._videos = max(self._videos, passed)
        return command.frames

    def _videos_passed(self) -> int:
        """Count the video frames since the episode's beginning whose instants the motion has passed."""
        timeline = self._planner.timeline
        if not len(timeline.plan.due):
            return self._videos
        actions = np.interp(timeline.motion_ns, timeline.plan.due, timeline.plan.progress)
        return int(actions / self._per_video + 1e-6)

    def _executed(self, frame: ExecutedFrame) -> Iterator[ExecutedChunk]:
        """Report a latent frame whose motion is complete."""
        index, end_ns = frame.latent_index, frame.video_stamps[-1]
        images, self._images = self._images[:VIDEO_FRAMES_PER_LATENT], self._images[VIDEO_FRAMES_PER_LATENT:]
        actions = self._profile.to_universal(frame.actions)
        self._session.executed(index, actions if self._poses is None else self._poses.relative(actions))
        self._pacer.executed(index, end_ns)
        self._latents.append((end_ns, index, self._encoder.encode(images)[0]))
        pending = self._moving[0]
        first, frames = pending.chunk.first_latent_index, len(pending.chunk.actions)
        if index == first:
            pending.start_ns = frame.begin_ns
        if index == first + frames - 1:
            self._moving.popleft()
            yield ExecutedChunk(
                pending.chunk, pending.began_ns, pending.done_ns, pending.placement, pending.start_ns, end_ns
            )
