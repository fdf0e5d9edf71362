"""What stands in for a model where only the motion matters: chunks that are known beforehand, and no latents."""

import numpy as np
import torch

from lingbot_va_core.robot import ACTION_DIM
from lingbot_va_core.session import Chunk

ROWS = 16  # actions per latent frame


class ReplayedSession:
    """Predicts commands [steps, 30] that are given, `frames` latent frames at a time, then the last of them.

    Attributes:
        executed_actions: what was reported back, by latent frame.
    """

    def __init__(self, commands: np.ndarray, frames: int, ahead: bool) -> None:
        """With `ahead`, a chunk is predicted while the one before is executed."""
        self._commands, self._frames, self._ahead = commands, frames, ahead

    def start(self, instruction: str) -> None:
        self._end, self._observed, self._executed = 1, -1, 0
        self.executed_actions: dict[int, np.ndarray] = {}

    def observe(self, index: int, latent: torch.Tensor) -> None:
        self._observed = index

    def executed(self, index: int, actions: np.ndarray) -> None:
        self._executed = index
        self.executed_actions[index] = actions

    @property
    def ready(self) -> bool:
        needed = self._end - 1 - (self._frames if self._ahead else 0)
        return min(self._observed, self._executed) >= needed if self._end > 1 else self._observed == 0

    def predict(self) -> Chunk:
        first = self._end
        steps = np.arange((first - 1) * ROWS, (first - 1 + self._frames) * ROWS).clip(max=len(self._commands) - 1)
        self._end += self._frames
        actions = self._commands[steps].reshape(self._frames, ROWS, ACTION_DIM)
        return Chunk(first, first, torch.zeros(self._frames, 1, 1, 1), actions, (), (), (), 0.0, 0.0, 0.0)


class NoLatents:
    """An encoder that sees nothing."""

    def reset(self) -> None: ...

    def encode(self, frames: object) -> torch.Tensor:
        return torch.zeros(1, 1, 1, 1)
