"""Noise levels of forward dynamics; that it agrees with training and in the loop is tested in test_closed_loop."""

from dataclasses import replace

import pytest

from lingbot_va_core.flow_matching import schedule
from lingbot_va_core.forward_dynamics import forward_dynamics_schedule
from lingbot_va_core.presets import preset

ROLLOUT = preset('lingbot-va-mot-5b').rollout  # shift 5, four of five steps


@pytest.mark.parametrize(
    'settings', [{}, {'video_exec_step': None}, {'video_exec_step': None, 'video_s': 0.5}], ids=str
)
def test_without_a_setting_the_steps_are_those_of_the_video(settings: dict) -> None:
    rollout = replace(ROLLOUT, **settings)
    plan = schedule(rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s)
    dynamics = forward_dynamics_schedule(rollout, plan.kept)
    assert dynamics.sigmas == pytest.approx(plan.until_kept().sigmas)
    assert not dynamics.partial


def test_fewer_steps_end_at_the_same_noise_level() -> None:
    kept = schedule(5, 5.0, exec_step=4).kept
    assert forward_dynamics_schedule(replace(ROLLOUT, fdm_steps=2), kept).sigmas == pytest.approx((1.0, 5 / 6, kept))
    assert forward_dynamics_schedule(replace(ROLLOUT, fdm_steps=1), kept).sigmas == pytest.approx((1.0, kept))
    assert forward_dynamics_schedule(replace(ROLLOUT, fdm_steps=2), 0.0).sigmas == pytest.approx((1.0, 5 / 6, 0.0))


@pytest.mark.parametrize(('s', 'sigmas'), [(1.0, (1.0, 5 / 6, 0.0)), (0.5, (1.0, 5 / 6)), (0.25, (1.0, 15 / 16))])
def test_it_can_be_cleaner_or_noisier_than_imagined_video(s: float, sigmas: tuple[float, ...]) -> None:
    rollout = replace(ROLLOUT, fdm_steps=2, fdm_s=s)
    assert forward_dynamics_schedule(rollout, 0.7).sigmas == pytest.approx(sigmas)


def test_video_that_stays_noise_needs_no_steps() -> None:
    assert forward_dynamics_schedule(ROLLOUT, 1.0).sigmas == (1.0,)
