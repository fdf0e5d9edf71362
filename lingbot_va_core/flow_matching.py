"""Flow matching: x_sigma = (1 - sigma) x0 + sigma noise, velocity noise - x0, solved by Euler steps."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

TIMESTEP_SCALE = 1000.0  # the model's timestep is 1000 sigma
AXES = ('unshifted', 'shifted')


class ScheduleError(ValueError):
    """Settings that no schedule follows from."""


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

    @property
    def kept(self) -> float:
        """Noise level at which later forwards see the result."""
        return self.sigmas[-2] if self.partial else self.sigmas[-1]

    def until_kept(self) -> 'Schedule':
        """Return the part that leads to the level `kept`, without the forward there."""
        return Schedule(self.sigmas[:-1], False) if self.partial else self


def shifted(u: float, shift: float) -> float:
    """Return sigma = shift u / (1 + (shift - 1) u), the true noise level at u of the linear schedule."""
    return shift * u / (1.0 + (shift - 1.0) * u)


def unshifted(sigma: float, shift: float) -> float:
    """Invert `shifted`."""
    return sigma / (shift - (shift - 1.0) * sigma)


def schedule(
    steps: int, shift: float, exec_step: int | None = None, s: float | None = None, axis: str = 'unshifted'
) -> Schedule:
    """Build a schedule: u = 1, 1 - 1/N, ... and sigma = shift u / (1 + (shift - 1) u).

    It can stop early, in two ways that are the same where s lies on the grid: N = 5, shift 5 and s = 0.6 unshifted is
    exec_step = 4. Off the grid, the forwards are those of the grid that are noisier than s, then one exactly at s.
    Either way the last forward is the one whose keys and values are kept, and one Euler step to the next level of the
    grid follows it.

    Args:
        steps: N.
        shift: above 1 spends more steps at high noise.
        exec_step: number of forwards to run; None runs all N.
        s: how clean the kept latent is, from 0 (noise) to 1 (clean, which is not partial); the paper's s.
        axis: 'unshifted': s = 1 - u. The default, because the history of noisy training is drawn on this axis, and the
            released example (5 steps, 4 of them run) is the paper's s = 0.6 on it. 'shifted': s = 1 - sigma.

    Raises:
        ScheduleError: a number out of range, an unknown axis, or both `exec_step` and `s`.
    """
    if steps < 1 or shift <= 0:
        raise ScheduleError(f'steps is {steps} and shift {shift}; steps must be at least 1, shift above 0')
    uniform = [1.0 - i / steps for i in range(steps)] + [0.0]
    partial = False
    if exec_step is not None:
        if s is not None:
            raise ScheduleError(f'exec_step = {exec_step} and s = {s} both say where to stop; give one')
        if not 1 <= exec_step <= steps:
            raise ScheduleError(f'exec_step is {exec_step}; it must be from 1 to steps = {steps}')
        uniform, partial = uniform[: exec_step + 1], True
    elif s is not None:
        if axis not in AXES:
            raise ScheduleError(f"axis is '{axis}'; choose one of {', '.join(AXES)}")
        if not 0 <= s <= 1:
            raise ScheduleError(f's is {s}; it must be from 0 (noise) to 1 (clean)')
        last = 1.0 - s if axis == 'unshifted' else unshifted(1.0 - s, shift)
        nearest = min(uniform, key=lambda u: abs(u - last))
        last = nearest if abs(nearest - last) < 1e-9 else last  # the same numbers as exec_step, to the bit
        if last > 0:
            uniform = [u for u in uniform if u > last] + [last] + [u for u in uniform if u < last][:1]
            partial = True
    return Schedule(tuple(shifted(u, shift) for u in uniform), partial)


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
