"""How released models are run, by name: the numbers that follow are the published ones."""

from dataclasses import replace

import pytest

from lingbot_va_core.config import ConfigError
from lingbot_va_core.presets import ROLLOUTS, preset, rollout_preset


@pytest.mark.parametrize(
    ('name', 'tokens', 'slots'),
    [
        ('robotwin', 120, 36 * 2 * (120 + 16)),
        ('franka', 210, 15 * 4 * (210 + 20)),
        ('demo', 128, 15 * 4 * (128 + 8)),
        ('libero', 32, 15 * 4 * (32 + 4)),
    ],
)
def test_a_released_model_runs_with_the_published_number_of_tokens(name: str, tokens: int, slots: int) -> None:
    chosen = rollout_preset(name)
    config = replace(preset('lingbot-va-shared-5b'), rollout=chosen.rollout)
    assert (config.video_tokens, config.cache_slots) == (tokens, slots)
    assert len(set(chosen.channels)) == len(chosen.channels)
    assert len(chosen.cameras) == chosen.rollout.cameras


def test_an_unknown_rollout_is_named_with_those_that_exist() -> None:
    assert list(ROLLOUTS) == ['robotwin', 'franka', 'demo', 'libero']
    with pytest.raises(ConfigError, match="rollout 'moon' is unknown; choose one of robotwin, franka, demo, libero"):
        rollout_preset('moon')
