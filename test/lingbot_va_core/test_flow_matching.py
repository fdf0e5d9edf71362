"""Schedules and the Euler solver."""

import pytest
import torch

from lingbot_va_core.flow_matching import Schedule, denoise, schedule


def test_the_schedule_is_linear_before_the_shift() -> None:
    assert schedule(4, 1.0) == Schedule((1.0, 0.75, 0.5, 0.25, 0.0), partial=False)


def test_shift_five_in_five_steps_as_released() -> None:
    sigmas = schedule(5, 5.0, exec_step=4).sigmas
    assert sigmas == pytest.approx((1.0, 0.952381, 0.882353, 0.769231, 0.555556), abs=1e-6)


@pytest.mark.parametrize('plan', [schedule(3, 1.0), schedule(7, 5.0), schedule(5, 5.0, exec_step=2)])
def test_the_true_velocity_leads_along_the_straight_path(plan: Schedule) -> None:
    clean, noise = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    visited = []

    def velocity(x: torch.Tensor, sigma: float, kept: bool) -> torch.Tensor:
        torch.testing.assert_close(x, (1 - sigma) * clean + sigma * noise)
        visited.append((sigma, kept))
        return noise - clean

    end = plan.sigmas[-1]
    torch.testing.assert_close(denoise(noise, plan, velocity), (1 - end) * clean + end * noise)
    assert visited == [(s, plan.partial and i == len(plan.sigmas) - 2) for i, s in enumerate(plan.sigmas[:-1])]
