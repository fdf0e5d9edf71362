"""Disturbances of a demonstration: noise on the joints, a push against an object."""

import mujoco
import numpy as np

SMOOTHING_S = 0.1  # shorter, the noise asks for accelerations that the limits of the joints cut off


class OrnsteinUhlenbeck:
    """Noise that wanders smoothly about zero, where it starts, with deviation `sigma` and correlated over some time.

    The process dx = -x dt / tau + sqrt(2 / tau) dW, discretised exactly, is smoothed by a first-order low-pass, which
    leaves tau / (tau + SMOOTHING_S) of its variance; that is made good.
    """

    def __init__(self, sigma: np.ndarray, correlation_s: float, dt: float, random: np.random.Generator) -> None:
        self._keep, self._smooth = np.exp(-dt / correlation_s), 1 - np.exp(-dt / SMOOTHING_S)
        self._sigma = np.asarray(sigma) * np.sqrt(1 + SMOOTHING_S / correlation_s)
        self._random = random
        self._raw, self._value = np.zeros_like(self._sigma), np.zeros_like(self._sigma)

    def step(self) -> np.ndarray:
        """Return the noise of the next control period, of the shape of `sigma`."""
        kick = np.sqrt(1 - self._keep**2) * self._random.standard_normal(self._raw.shape)
        self._raw = self._keep * self._raw + kick
        self._value = self._value + self._smooth * (self._raw - self._value)
        return self._sigma * self._value


def push(data: mujoco.MjData, joint: str, velocity: np.ndarray) -> None:
    """Hit a free object, given by its joint, so that it slides away at `velocity`, m/s in the world's x and y."""
    data.joint(joint).qvel[:2] += velocity
