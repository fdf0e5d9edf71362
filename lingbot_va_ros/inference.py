"""The thread that owns the session: inputs go in through a queue, chunks come out through callbacks."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lingbot_va_core.pacing import Pacer, Placement
from lingbot_va_core.prediction_error import PredictionError, PredictionErrors
from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.session import Chunk, Session
from lingbot_va_core.world_model import WorldModel

SIMULATED_WAIT_S = 0.01  # at most: a simulation's clock may run faster than the one of this machine


@dataclass(frozen=True)
class Prediction:
    """A chunk, what it was predicted from and when it is to be executed.

    Attributes:
        chunk: see `lingbot_va_core.session`.
        placement: when it begins and how fast it goes, see `lingbot_va_core.pacing`.
        observation_stamps: newest video frame of each latent frame in `chunk.observation_indices`, nanoseconds.
        latency_ns: since the prediction was begun, on the node's clock.
    """

    episode: int
    chunk: Chunk
    placement: Placement
    observation_stamps: tuple[int, ...]
    latency_ns: int


class InferenceThread:
    """Runs a session in a thread of its own, so that the node goes on to answer while it predicts.

    All methods may be called from any thread and return at once. `on_busy` (episode), `on_prediction`, `on_error`
    (episode, error, stamp) and `on_failure` (episode, reason) are called from the thread. Inputs of an episode other
    than the running one are ignored, and whoever takes a prediction must compare its episode, which may have ended
    while it was computed.

    Args:
        session: the closed loop; it decides what a chunk can be predicted from.
        pacer: decides when.
        now: the node's clock, nanoseconds.
        simulated: that clock is a simulation's.
    """

    def __init__(
        self,
        session: Session,
        pacer: Pacer,
        now: Callable[[], int],
        simulated: bool,
        on_busy: Callable[[int], None],
        on_prediction: Callable[[Prediction], None],
        on_error: Callable[[int, PredictionError, int], None],
        on_failure: Callable[[int, str], None],
    ) -> None:
        self._session, self._pacer, self._now, self._simulated = session, pacer, now, simulated
        self._longest_wait_s = SIMULATED_WAIT_S if simulated else threading.TIMEOUT_MAX
        self._on_busy, self._on_prediction, self._on_error = on_busy, on_prediction, on_error
        self._on_failure = on_failure
        self._inputs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._episode = 0
        self._paused_ns: int | None = None  # since when the motion stands still
        self._grounding = False
        self._stamps: dict[int, int] = {}
        self._errors = PredictionErrors()
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

    def executed(self, episode: int, index: int, actions: np.ndarray, end_ns: int) -> None:
        """Give the actions [n, 30] that were executed in a latent frame, and when its motion ended."""
        self._inputs.put(lambda: self._executed(episode, index, actions, end_ns))

    def pause(self, paused: bool) -> None:
        """Say whether the motion is paused: the rest of it then comes later, and so does the next prediction."""
        self._inputs.put(lambda: self._pause(paused))

    def ground(self, episode: int) -> None:
        """Let the next prediction of an episode wait until it needs nothing that is imagined."""
        self._inputs.put(lambda: setattr(self, '_grounding', self._grounding or episode == self._episode))

    def close(self) -> None:
        """End the thread after what it is doing."""
        self._inputs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                take = self._inputs.get(timeout=self._wait_s())
            except queue.Empty:
                take = _nothing
            if take is None:
                return
            try:
                take()
                if self._inputs.empty() and self._due():
                    self._predict()
            except Exception as error:  # a thread has no caller to tell
                foreseen = isinstance(error, (ValueError, RuntimeError, ArithmeticError))
                episode, self._episode = self._episode, 0
                self._on_failure(episode, str(error) if foreseen else f'unexpected {type(error).__name__}: {error}')

    def _wait_s(self) -> float | None:
        """Seconds to wait for an input before the next prediction is due; None: it depends on an input."""
        if not self._episode or self._paused_ns is not None or self._grounding or not self._session.ready:
            return None
        return min(max(self._pacer.begin_ns - self._now(), 0) * 1e-9, self._longest_wait_s)

    def _due(self) -> bool:
        """Whether to predict now: when nothing is left to be executed, or when the chunk would else be late."""
        if not self._episode or not self._session.ready:
            return False
        if self._paused_ns is not None or self._grounding:
            return self._session.complete
        return self._session.complete or self._now() >= self._pacer.begin_ns

    def _begin(self, episode: int, instruction: str) -> None:
        self._episode = episode
        self._grounding = False
        self._stamps.clear()
        self._errors = PredictionErrors()
        self._pacer.restart()
        if episode:
            self._session.start(instruction)

    def _pause(self, paused: bool) -> None:
        if paused:
            self._paused_ns = self._now() if self._paused_ns is None else self._paused_ns
        elif self._paused_ns is not None:
            self._pacer.paused(max(self._now() - self._paused_ns, 0))
            self._paused_ns = None

    def _observe(self, episode: int, index: int, latent: np.ndarray, stamp_ns: int) -> None:
        if episode == self._episode:
            self._session.observe(index, latent)
            self._stamps.setdefault(index, stamp_ns)
            self._pacer.observed(stamp_ns, self._now())
            for error in self._errors.observe(index, latent):
                self._on_error(episode, error, self._stamps.get(error.index, stamp_ns))

    def _executed(self, episode: int, index: int, actions: np.ndarray, end_ns: int) -> None:
        if episode == self._episode:
            self._session.executed(index, actions)
            self._pacer.executed(index, end_ns)

    def _predict(self) -> None:
        started_ns, steady_ns = self._now(), time.monotonic_ns()
        self._grounding = False
        self._on_busy(self._episode)
        chunk = self._session.predict()
        self._errors.imagine(chunk)
        stamps = tuple(self._stamps.pop(i) for i in chunk.observation_indices)
        now = self._now()
        if self._paused_ns is not None:  # the chunk begins after what has passed of the pause
            self._paused_ns = now
        if not self._simulated:  # a clock that was set meanwhile says nothing about the latency
            started_ns = now - (time.monotonic_ns() - steady_ns)
        placement = self._pacer.predicted(started_ns, now, chunk.first_latent_index, len(chunk.actions))
        self._on_prediction(Prediction(self._episode, chunk, placement, stamps, now - started_ns))


def _nothing() -> None:
    """Stands for an input that did not come before a prediction was due."""


def warm_up(model: WorldModel, mode: str) -> float:
    """Run two chunks on blank input, so that the first real one is not the slow one; return the second's seconds."""
    session = Session(model, mode)
    session.start('')
    blank = np.zeros(model.config.latent_shape, np.float32)
    still = np.zeros((model.config.rollout.actions_per_latent, ACTION_DIM), np.float32)
    session.observe(0, blank)
    chunk = session.predict()
    if mode == 'sync':
        for index in range(chunk.first_latent_index, chunk.first_latent_index + len(chunk.actions)):
            session.observe(index, blank)
            session.executed(index, still)
    started = time.perf_counter()
    session.predict()
    return time.perf_counter() - started
