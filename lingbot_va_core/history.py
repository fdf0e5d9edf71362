"""What really happened in an episode, as far as it is known: latent frames and executed actions."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class SessionError(ValueError):
    """Input that does not continue the episode."""


class History:
    """Real inputs by latent-frame index, in any order, until they are in the context.

    A frame is real once both its latent and its executed actions are known; frame 0, which no action leads to, once
    its latent is. Frames enter the context in order, so that a missing one holds back those behind it.

    Attributes:
        grounded: frames before this are in the context and no longer here.
    """

    def __init__(
        self,
        latent_shape: tuple[int, int, int],
        action_shape: tuple[int, int],
        normalize: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self._latent_shape, self._action_shape = latent_shape, action_shape
        self._normalize, self._device = normalize, device
        self._still = torch.zeros(action_shape, device=device)  # of frame 0, normalised
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._latents: dict[int, Tensor] = {}
        self._actions: dict[int, Tensor] = {0: self._still}
        self.grounded = 0

    @property
    def real(self) -> int:
        """Frames before this are real."""
        return self._first_missing(self._latents, self._actions)

    @property
    def observed(self) -> int:
        """Latent frames before this are known."""
        return self._first_missing(self._latents)

    @property
    def acted(self) -> int:
        """Executed actions of frames before this are known."""
        return self._first_missing(self._actions)

    def observe(self, index: int, latent: Tensor | np.ndarray, end: int) -> None:
        """Take the latent frame `index`, [C, h, w]; `end` is one past the last frame that can be known.

        Raises:
            SessionError: it lies at or past `end`, its shape is wrong, or a value is not finite.
        """
        self._keep(self._latents, 'latent frame', index, latent, self._latent_shape, end)

    def executed(self, index: int, actions: Tensor | np.ndarray, end: int) -> None:
        """Take the actions executed in frame `index`, [n, 30] in SI units; raises as `observe`."""
        if self._keep(self._actions, 'executed actions', index, actions, self._action_shape, end):
            self._actions[index] = self._normalize(self._actions[index])

    def latent(self, index: int) -> Tensor:
        """A known latent frame that is not grounded."""
        return self._latents[index]

    def actions(self, index: int) -> Tensor | None:
        """Normalised executed actions of a frame that is not grounded; None while unknown."""
        return self._actions.get(index)

    def group(self, end: int) -> tuple[Tensor, Tensor]:
        """Latents [C, F, h, w] and normalised actions [F, n, 30] of the frames from `grounded` to `end`."""
        frames = range(self.grounded, end)
        return torch.stack([self._latents[i] for i in frames], dim=1), torch.stack([self._actions[i] for i in frames])

    def ground(self, end: int) -> None:
        """Forget the frames before `end`, which are in the context now."""
        for index in range(self.grounded, end):
            del self._latents[index], self._actions[index]
        self.grounded = end

    def _first_missing(self, *known: dict[int, Tensor]) -> int:
        index = self.grounded
        while all(index in values for values in known):
            index += 1
        return index

    def _keep(
        self,
        known: dict[int, Tensor],
        what: str,
        index: int,
        values: Tensor | np.ndarray,
        shape: tuple[int, ...],
        end: int,
    ) -> bool:
        """Check and copy what the caller may go on to change; return False for what was known before."""
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values.astype(np.float32))
        if tuple(values.shape) != tuple(shape):
            raise SessionError(f'{what} {index}: shape {list(values.shape)}; it must be {list(shape)}')
        if not torch.isfinite(values).all():
            raise SessionError(f'{what} {index}: a value is not finite')
        if index >= end:
            raise SessionError(f'{what} {index}: the last predicted frame is {end - 1}; predict the next chunk first')
        if index < self.grounded or index in known:
            return False
        known[index] = values.to(self._device, torch.float32, copy=True)
        return True
