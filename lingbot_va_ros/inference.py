"""The thread that owns the session: inputs go in through a queue, chunks come out through callbacks."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.session import Chunk, Session


@dataclass(frozen=True)
class Prediction:
    """A chunk and what it was predicted from.

    Attributes:
        chunk: see `lingbot_va_core.session`.
        observation_stamps: newest video frame of each latent frame in `chunk.observation_indices`, nanoseconds.
        newest_ns: newest video frame that was observed.
        input_at: `time.perf_counter` when the last input came.
    """

    episode: int
    chunk: Chunk
    observation_stamps: tuple[int, ...]
    newest_ns: int
    input_at: float


class InferenceThread:
    """Runs a session in a thread of its own, so that the node goes on to answer while it predicts.

    All methods may be called from any thread and return at once. `on_prediction` and `on_failure` (episode, reason)
    are called from the thread. Inputs of an episode other than the running one are ignored.
    """

    def __init__(
        self,
        model: WorldModel,
        seed: int,
        on_busy: Callable[[], None],
        on_prediction: Callable[[Prediction], None],
        on_failure: Callable[[int, str], None],
    ) -> None:
        self._session = Session(model, seed=seed)
        self._on_busy, self._on_prediction, self._on_failure = on_busy, on_prediction, on_failure
        self._inputs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._episode = 0
        self._stamps: dict[int, int] = {}
        self._newest_ns = 0
        self._thread = threading.Thread(target=self._run, name='inference', daemon=True)
        self._thread.start()

    def begin(self, episode: int, instruction: str) -> None:
        """Start an episode; 0 ends the running one."""
        self._inputs.put(lambda: self._begin(episode, instruction))

    def set_instruction(self, text: str) -> None:
        """Change the instruction of the running episode."""
        self._inputs.put(lambda: self._session.set_instruction(text) if self._episode else None)

    def observe(self, episode: int, index: int, latent: np.ndarray, stamp_ns: int) -> None:
        """Give a real latent frame [C, h, w] and the stamp of its newest video frame."""
        self._inputs.put(lambda: self._observe(episode, index, latent, stamp_ns))

    def executed(self, episode: int, index: int, actions: np.ndarray) -> None:
        """Give the actions [n, 30] that were executed in a latent frame."""
        self._inputs.put(lambda: self._session.executed(index, actions) if episode == self._episode else None)

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._inputs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (take := self._inputs.get()) is not None:
            try:
                take()
                if self._episode and self._inputs.empty() and self._session.ready:
                    self._predict()
            except (ValueError, RuntimeError, ArithmeticError) as error:
                episode, self._episode = self._episode, 0
                self._on_failure(episode, str(error))

    def _begin(self, episode: int, instruction: str) -> None:
        self._episode = episode
        self._stamps.clear()
        if episode:
            self._session.start(instruction)

    def _observe(self, episode: int, index: int, latent: np.ndarray, stamp_ns: int) -> None:
        if episode == self._episode:
            self._session.observe(index, latent)
            self._stamps[index] = self._newest_ns = stamp_ns

    def _predict(self) -> None:
        input_at = time.perf_counter()
        self._on_busy()
        chunk = self._session.predict()
        stamps = tuple(self._stamps.pop(i) for i in chunk.observation_indices)
        self._on_prediction(Prediction(self._episode, chunk, stamps, self._newest_ns, input_at))


def warm_up(model: WorldModel, seed: int = 0) -> float:
    """Run two chunks on blank input, so that the first real one is not the slow one; return the second's seconds."""
    session = Session(model, seed=seed)
    session.start('')
    blank = np.zeros(model.config.latent_shape, np.float32)
    still = np.zeros((model.config.rollout.actions_per_latent, ACTION_DIM), np.float32)
    session.observe(0, blank)
    chunk = session.predict()
    for index in range(chunk.first_latent_index, chunk.first_latent_index + len(chunk.actions)):
        session.observe(index, blank)
        session.executed(index, still)
    started = time.perf_counter()
    session.predict()
    return time.perf_counter() - started
