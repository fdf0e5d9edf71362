"""Action normalisation."""

import json

import numpy as np
import pytest
import torch

from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.robot import RobotProfile


@pytest.fixture
def normalizer(profile: RobotProfile) -> ActionNormalizer:
    return ActionNormalizer.from_profile(profile)


def test_denormalize_undoes_normalize_on_used_channels(normalizer: ActionNormalizer) -> None:
    actions = torch.randn(3, 16, 30, generator=torch.Generator().manual_seed(0)) * 2
    used = normalizer.used()
    back = normalizer.denormalize(normalizer.normalize(actions))
    torch.testing.assert_close(back[..., used], actions[..., used], rtol=1e-5, atol=1e-5)
    assert not back[..., ~used].any()
    assert not normalizer.normalize(actions)[..., ~used].any()


def test_quantiles_map_to_about_minus_one_and_one() -> None:
    normalizer = ActionNormalizer((2.0,) * 30, (6.0,) * 30, (True,) * 30)
    values = torch.tensor([2.0, 4.0, 6.0])[:, None].expand(3, 30)
    expected = torch.tensor([-1.0, 0.0, 1.0])[:, None].expand(3, 30)
    torch.testing.assert_close(normalizer.normalize(values), expected, rtol=0, atol=1e-6)


def test_an_untrained_model_stays_near_home_and_within_limits(
    profile: RobotProfile, normalizer: ActionNormalizer
) -> None:
    low = profile.from_universal(normalizer.denormalize(-torch.ones(30)).numpy())
    high = profile.from_universal(normalizer.denormalize(torch.ones(30)).numpy())
    home, gripper = profile.limits('home'), profile.channels >= 28
    assert np.all(low >= profile.limits('lower') - 1e-5)
    assert np.all(high <= profile.limits('upper') + 1e-5)
    np.testing.assert_allclose((home - low)[~gripper], 0.25, atol=1e-5)
    np.testing.assert_allclose((high - home)[~gripper], 0.25, atol=1e-5)
    np.testing.assert_allclose(low[gripper], profile.limits('lower')[gripper], atol=1e-5)
    np.testing.assert_allclose(high[gripper], profile.limits('upper')[gripper], atol=1e-5)


def test_statistics_survive_json(normalizer: ActionNormalizer) -> None:
    assert ActionNormalizer.from_dict(json.loads(json.dumps(normalizer.to_dict()))) == normalizer


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'q01': [0.0] * 29}, 'q01 has 29 values; it must have 30'),
        ({'q01': ['a'] * 30}, 'it must be a list of 30'),
        ({'q01': [9.0] * 30}, 'channel 14: q01 9.0 and q99'),
        ({'q99': [float('nan')] * 30}, 'channel 14: .* must be finite'),
        ({'mask': [False] * 30}, 'mask uses no channel'),
    ],
)
def test_wrong_statistics_are_refused(normalizer: ActionNormalizer, change: dict, message: str) -> None:
    with pytest.raises(NormalizationError, match=message):
        ActionNormalizer.from_dict({**normalizer.to_dict(), **change})
