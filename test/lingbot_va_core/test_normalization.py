"""Action normalisation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.normalization import TRAINING_CLIP, ActionNormalizer, NormalizationError
from lingbot_va_core.poses import absolute_actions
from lingbot_va_core.robot import EndEffector, RobotProfile


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


@given(st.lists(st.booleans(), min_size=30, max_size=30).filter(any), st.integers(0, 2**32 - 1))
def test_any_statistics_are_undone_and_nothing_leaks_past_the_mask(mask: list[bool], seed: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(-3, 3, 30)
    high = low + random.choice([0.0, 1e-3, 1.0], 30)
    normalizer = ActionNormalizer(tuple(low.tolist()), tuple(high.tolist()), tuple(mask))
    used = torch.tensor(mask)
    actions = torch.where(used, torch.from_numpy(random.uniform(-4, 4, (7, 30))), torch.nan)
    normalized = normalizer.normalize(actions)
    span = high - low + 1e-6
    expected = 2 * (actions.numpy() - low) / span - 1
    rounding = 3e-7 / span + 1e-6 * np.abs(expected)  # of the statistics to float32
    assert (np.abs(normalized.numpy() - expected) <= rounding)[:, mask].all()
    back = normalizer.denormalize(torch.where(used, normalized, torch.nan))
    torch.testing.assert_close(back[:, used], actions[:, used], rtol=1e-6, atol=1e-6)
    assert torch.equal(normalized[:, ~used], torch.zeros_like(normalized[:, ~used]))
    assert torch.equal(back[:, ~used], torch.zeros_like(back[:, ~used]))


def test_training_clips_outliers_and_nothing_else(normalizer: ActionNormalizer) -> None:
    wide = torch.linspace(-3, 3, 60)[:, None].expand(60, 30)
    actions = normalizer.denormalize(wide)
    clipped = normalizer.normalize(actions, clip=TRAINING_CLIP)
    assert clipped.abs().max() == 1.5
    torch.testing.assert_close(clipped, normalizer.normalize(actions).clamp(-1.5, 1.5), rtol=0, atol=0)
    assert normalizer.normalize(actions).abs().max() > 2.9


def test_an_untrained_model_moves_tools_gently_about_their_first_pose(profile: RobotProfile) -> None:
    tool = EndEffector(tool_frame='tool', base_frame='base', in_action=True)
    arms = (replace(profile.arms[0], end_effector=tool), profile.arms[1])
    tooled = replace(profile, arms=arms)
    normalizer = ActionNormalizer.from_profile(tooled)
    predicted = torch.rand(500, 30, generator=torch.Generator().manual_seed(0)) * 2 - 1
    origin = np.zeros(30)
    origin[:7] = [0.4, 0.1, 0.3, 0.5, 0.5, 0.5, -0.5]
    poses = absolute_actions(normalizer.denormalize(predicted).numpy(), tooled.mask, origin)[:, :7]
    assert np.abs(poses[:, :3] - origin[:3]).max() <= 0.05 + 1e-6
    angles = 2 * np.arccos(np.clip(np.abs(poses[:, 3:] @ origin[3:7]), 0, 1))
    assert 0.1 < angles.max() < 0.5


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
