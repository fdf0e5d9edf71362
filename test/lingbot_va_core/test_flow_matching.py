"""Schedules and the Euler solver."""

import pytest
import torch

from lingbot_va_core.flow_matching import Schedule, ScheduleError, denoise, schedule, shifted, unshifted


def test_the_schedule_is_linear_before_the_shift() -> None:
    assert schedule(4, 1.0) == Schedule((1.0, 0.75, 0.5, 0.25, 0.0), partial=False)


def test_shift_five_in_five_steps_as_released() -> None:
    sigmas = schedule(5, 5.0, exec_step=4).sigmas
    assert sigmas == pytest.approx((1.0, 0.952381, 0.882353, 0.769231, 0.555556), abs=1e-6)


@pytest.mark.parametrize('shift', [0.05, 1.0, 5.0])
def test_the_shift_can_be_inverted(shift: float) -> None:
    for u in (0.0, 0.3, 1.0):
        assert unshifted(shifted(u, shift), shift) == pytest.approx(u)


def test_the_papers_s_on_the_grid_is_the_released_exec_step() -> None:
    released = schedule(5, 5.0, exec_step=4)
    assert schedule(5, 5.0, s=0.6) == released
    assert schedule(5, 5.0, s=1 - released.sigmas[3], axis='shifted') == released
    assert schedule(4, 1.0, s=0.5) == schedule(4, 1.0, s=0.5, axis='shifted') == schedule(4, 1.0, exec_step=3)


def test_s_off_the_grid_is_reached_exactly() -> None:
    plan = schedule(4, 5.0, s=0.6)
    assert plan.sigmas == pytest.approx([shifted(u, 5.0) for u in (1.0, 0.75, 0.5, 0.4, 0.25)])
    assert plan.partial
    assert schedule(5, 5.0, s=0.5, axis='shifted').sigmas[-2:] == pytest.approx((0.5, 0.0))
    assert schedule(5, 5.0, s=0.4, axis='shifted').sigmas[-2:] == pytest.approx((0.6, shifted(0.2, 5.0)))


def test_the_level_that_is_kept_and_the_way_there() -> None:
    partial, full = schedule(4, 1.0, exec_step=3), schedule(4, 1.0)
    assert (partial.kept, full.kept) == (0.5, 0.0)
    assert partial.until_kept() == Schedule((1.0, 0.75, 0.5), partial=False)
    assert full.until_kept() == full
    assert schedule(5, 5.0, exec_step=1).until_kept() == Schedule((1.0,), partial=False)


def test_s_at_its_ends() -> None:
    assert schedule(5, 5.0, s=1.0) == schedule(5, 5.0)
    assert schedule(5, 5.0, s=0.0) == schedule(5, 5.0, exec_step=1)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'s': 1.2}, 's is 1.2; it must be from 0'),
        ({'s': 0.5, 'axis': 'sideways'}, "axis is 'sideways'; choose one of unshifted, shifted"),
        ({'s': 0.5, 'exec_step': 2}, 'both say where to stop'),
        ({'exec_step': 6}, 'exec_step is 6; it must be from 1 to steps = 5'),
        ({'shift': 0.0}, 'shift above 0'),
    ],
)
def test_wrong_settings_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        schedule(**{'steps': 5, 'shift': 5.0, **arguments})


@pytest.mark.parametrize(
    'plan', [schedule(3, 1.0), schedule(7, 5.0), schedule(5, 5.0, exec_step=2), schedule(5, 5.0, s=0.5)]
)
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
