"""Feeds a recorded episode to a session, and compares the chunks with those that were recorded."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lingbot_va_core.session import Chunk, Session
from lingbot_va_ros.action_messages import pose_frame
from lingbot_va_ros.recorded_run import RecordedRun


class ReplayError(ValueError):
    """An episode that cannot be replayed, in one line."""


@dataclass(frozen=True)
class Step:
    """What becomes known before a chunk is predicted: latent frames and executed actions, by index.

    Attributes:
        first: latent frame with which the chunk begins.
        recorded: ActionChunk that was predicted from it.
    """

    observed: tuple[int, ...]
    executed: tuple[int, ...]
    first: int
    recorded: Any | None = None


@dataclass(frozen=True)
class Replayed:
    """A chunk that was predicted anew.

    Attributes:
        recorded: ActionChunk message that was predicted from the same, None where the steps differ.
        chunk: see `lingbot_va_core.session`.
        seconds: that it took.
    """

    recorded: Any | None
    chunk: Chunk
    seconds: float

    @property
    def frames(self) -> range:
        """The latent frames that it imagines."""
        first = self.chunk.first_latent_index
        return range(first, first + len(self.chunk.latents))


@dataclass(frozen=True)
class Difference:
    """Largest absolute differences of a replayed chunk from the recorded one, and whether they have the same context.

    Attributes:
        actions: SI units.
        latents: of the imagined frames, as they were sent in half precision; None where they were not recorded.
        compared, imagined: how many imagined frames were compared, and how many there are.
    """

    chunk: int
    actions: float
    latents: float | None
    compared: int
    imagined: int
    same_context: bool

    @property
    def same_actions(self) -> bool:
        """Whether the actions are the same to the bit, and no imagined frame that was recorded differs."""
        return self.same_context and self.actions == 0 and not self.latents

    @property
    def identical(self) -> bool:
        """Whether everything was compared, and nothing differs, to the bit."""
        return self.same_actions and self.compared == self.imagined


def same_frames(run: RecordedRun, chunk_frames: int) -> bool:
    """Whether a model with so many latent frames in a chunk predicts the same ones as the recorded model."""
    return all(
        message.latent_frames == (chunk_frames if message.chunk else max(chunk_frames - 1, 1)) for message in run.chunks
    )


def recorded_steps(run: RecordedRun) -> list[Step]:
    """Return the order in which the inputs of an episode became known to the chunks that were recorded.

    Raises:
        ReplayError: the recording does not begin with the episode, or lacks a chunk.
    """
    steps, known = [], {0}
    for number, message in enumerate(run.chunks):
        if message.chunk != number:
            missing = 'it began before the recording' if number == 0 else f'chunk {number} was not recorded'
            raise ReplayError(f'episode {run.episode} cannot be replayed: {missing}')
        executed = [int(i) for i in (*message.observation_indices, *message.executed_indices) if i not in known]
        known.update(executed)
        observed = tuple(map(int, message.observation_indices))
        steps.append(Step(observed, tuple(executed), int(message.first_latent_index), message))
    return steps


def synchronous_steps(run: RecordedRun, chunk_frames: int) -> list[Step]:
    """Return the order in which a model that waits for all of its last chunk would have got the same inputs."""
    steps, end = [Step((0,), (), 1)], max(chunk_frames, 2)
    while end <= max(run.latents, default=0):
        last = tuple(range(1 if len(steps) == 1 else end - chunk_frames, end))
        if not all(index in run.latents and index in run.executed for index in last):
            break
        steps.append(Step(last, last, end))
        end += chunk_frames
    return steps


def replay(run: RecordedRun, session: Session, steps: Sequence[Step]) -> Iterator[Replayed]:
    """Predict a chunk after each step; an instruction holds from the latent frame on with which its chunk began.

    Raises:
        ReplayError: an input is not in the recording.
        SessionError: the session cannot predict from these steps.
    """
    instruction = run.instructions.get(0, run.instruction)
    said = [
        (message.first_latent_index, run.instructions[message.chunk])
        for message in run.chunks
        if message.chunk in run.instructions
    ]
    session.start(instruction)
    for number, step in enumerate(steps):
        text = next((text for first, text in reversed(said) if first <= step.first), instruction)
        if text != instruction:
            instruction = text
            session.set_instruction(text)
        for index in step.executed:
            session.executed(index, _of(run, run.executed, index, 'report of executed actions', number))
        for index in step.observed:
            session.observe(index, _of(run, run.latents, index, 'latent frame', number))
        started = time.perf_counter()
        chunk = session.predict()
        yield Replayed(step.recorded, chunk, time.perf_counter() - started)


def difference(run: RecordedRun, replayed: Replayed) -> Difference:
    """Compare a chunk that follows from `recorded_steps` with the recorded one.

    Raises:
        ReplayError: they are of different sizes.
    """
    message, chunk = replayed.recorded, replayed.chunk
    if len(message.actions) != chunk.actions.size:
        raise ReplayError(
            f'chunk {message.chunk} of episode {run.episode} has {len(message.actions)} numbers; the model gives '
            f'{chunk.actions.size}'
        )
    actions = np.asarray(message.actions, dtype=np.float32).reshape(chunk.actions.shape)
    frames = {chunk.first_latent_index + i: latent for i, latent in enumerate(chunk.latents.numpy())}
    latents = [
        float(np.abs(run.imagined[index] - latent.astype(np.float16).astype(np.float32)).max())
        for index, latent in frames.items()
        if index in run.imagined
    ]
    context = ('observation_indices', 'imagined_indices', 'executed_indices')
    return Difference(
        chunk=int(message.chunk),
        actions=float(np.abs(actions - chunk.actions).max()),
        latents=float(np.max(latents)) if latents else None,
        compared=len(latents),
        imagined=len(frames),
        same_context=all(tuple(getattr(message, name)) == getattr(chunk, name) for name in context),
    )


def require_pose_frame(run: RecordedRun, relative: bool | None, mask: np.ndarray) -> None:
    """Refuse a model whose poses are relative to something else than the recorded ones.

    Args:
        run: recorded.
        relative: `relative_poses` of the model, None where that is unknown.
        mask: bool [30], channels that the robot uses.

    Raises:
        ReplayError: they are.
    """
    ours = pose_frame(relative, mask)
    others = {message.header.frame_id for message in run.chunks} - {'', ours}
    if ours and others:
        raise ReplayError(
            f"episode {run.episode} cannot be replayed: its chunks have poses in '{min(others)}', those of the "
            f"model are in '{ours}'"
        )


def _of(run: RecordedRun, values: dict[int, np.ndarray], index: int, what: str, chunk: int) -> np.ndarray:
    if index not in values:
        raise ReplayError(
            f'episode {run.episode} cannot be replayed from chunk {chunk} on: the {what} {index} is not in the bag'
        )
    return values[index]
