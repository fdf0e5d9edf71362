"""Quantiles of actions, episode by episode."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lingbot_va_core.action_statistics import ActionStatistics
from lingbot_va_core.normalization import NormalizationError

MASK = np.isin(np.arange(30), [14, 15, 28])


def collected(episodes: list[np.ndarray], **options: int) -> ActionStatistics:
    statistics = ActionStatistics(MASK, **options)
    for episode in episodes:
        statistics.add(episode)
    return statistics


@settings(max_examples=50)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any), st.integers(0, 2**32 - 1))
def test_quantiles_are_exact_however_the_data_is_split(lengths: list[int], seed: int) -> None:
    data = np.random.default_rng(seed).normal(size=(sum(lengths), 30)).astype(np.float32)
    normalizer = collected(np.split(data, np.cumsum(lengths)[:-1])).normalizer()
    for channel in range(30):
        expected = np.quantile(data[:, channel].astype(np.float64), [0.01, 0.99]) if MASK[channel] else [0.0, 0.0]
        np.testing.assert_allclose([normalizer.q01[channel], normalizer.q99[channel]], expected, rtol=0, atol=1e-6)
    assert normalizer.mask == tuple(MASK.tolist())


def test_a_sample_of_a_large_data_set_has_its_quantiles() -> None:
    data = np.random.default_rng(0).uniform(size=(200_000, 30)).astype(np.float32)
    data = np.sort(data, axis=0)  # a sample that prefers early or late actions would show
    statistics = collected(np.array_split(data, 70), capacity=20_000)
    assert statistics.count == 200_000
    normalizer = statistics.normalizer()
    deviation = np.sqrt(0.01 * 0.99 / 20_000)
    np.testing.assert_allclose(np.array(normalizer.q01)[MASK], 0.01, rtol=0, atol=5 * deviation)
    np.testing.assert_allclose(np.array(normalizer.q99)[MASK], 0.99, rtol=0, atol=5 * deviation)
    assert collected(np.array_split(data, 70), capacity=20_000).normalizer() == normalizer


def test_a_channel_that_hardly_moves_gets_the_least_range() -> None:
    data = np.random.default_rng(0).normal(size=(1000, 30)) * 1e-5 + 2.0
    data[:, 15] = np.linspace(-1, 1, 1000)
    statistics = collected([data])
    normalizer = statistics.normalizer(min_range=0.02)
    assert normalizer.q99[14] - normalizer.q01[14] == pytest.approx(0.02)
    assert (normalizer.q99[14] + normalizer.q01[14]) / 2 == pytest.approx(2.0, abs=1e-5)
    assert normalizer.q99[15] == statistics.normalizer().q99[15]
    assert normalizer.normalize(torch.from_numpy(data))[:, 14].abs().max() < 0.01
    ranges = np.zeros(30)
    ranges[28] = 0.5
    one = statistics.normalizer(ranges)
    assert one.q99[28] - one.q01[28] == pytest.approx(0.5)
    assert one.q99[14] == statistics.normalizer().q99[14]


def test_what_is_not_finite_counts_only_where_it_is_used() -> None:
    data = np.zeros((5, 30))
    data[2, 0] = np.nan
    statistics = collected([data])
    data[3, 28] = np.inf
    with pytest.raises(NormalizationError, match='action 3: channel 28 is inf; it must be finite'):
        statistics.add(data)
    assert statistics.count == 5


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(NormalizationError, match='not all false'):
        ActionStatistics(np.zeros(30, dtype=bool))
    with pytest.raises(NormalizationError, match='capacity is 0'):
        ActionStatistics(MASK, capacity=0)
    with pytest.raises(NormalizationError, match='there are no actions'):
        ActionStatistics(MASK).normalizer()
    with pytest.raises(NormalizationError, match=r'actions have the shape \(14,\)'):
        collected([np.zeros(14)])
    with pytest.raises(NormalizationError, match=r'min_range is -1\.0'):
        collected([np.zeros((1, 30))]).normalizer(-1.0)
