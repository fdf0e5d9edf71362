"""Flow matching: x_sigma = (1 - sigma) x0 + sigma noise, velocity noise - x0, solved by Euler steps."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

TIMESTEP_SCALE = 1000.0  # the model's timestep is 1000 sigma


@dataclass(frozen=True)
class Schedule:
    """Noise levels of one denoising.

    Attributes:
        sigmas: noise level of each forward, then the one that the last Euler step reaches; falling from 1.
        partial: stops before 0. Then the last forward's keys and values are what later forwards look at; otherwise
            one more forward at sigma = 0 writes them.
    """

    sigmas: tuple[float, ...]
    partial: bool


def schedule(steps: int, shift: float, exec_step: int | None = None) -> Schedule:
    """Build a schedule: u = 1, 1 - 1/N, ... and sigma = shift u / (1 + (shift - 1) u).

    Args:
        steps: N.
        shift: above 1 spends more steps at high noise.
        exec_step: number of forwards to run; None runs all N.
    """
    uniform = [1.0 - i / steps for i in range(steps)]
    sigmas = [shift * u / (1.0 + (shift - 1.0) * u) for u in uniform] + [0.0]
    return Schedule(tuple(sigmas[: (exec_step or steps) + 1]), exec_step is not None)


def denoise(noise: Tensor, plan: Schedule, velocity: Callable[[Tensor, float, bool], Tensor]) -> Tensor:
    """Integrate from noise to the end of the schedule.

    Args:
        noise: starting point, at sigma = 1.
        plan: noise levels.
        velocity: called with x, sigma and whether this is the last forward of a partial schedule.
    """
    x = noise
    last = len(plan.sigmas) - 2
    for i, (sigma, following) in enumerate(zip(plan.sigmas, plan.sigmas[1:], strict=False)):
        x = x + velocity(x, sigma, plan.partial and i == last) * (following - sigma)
    return x
