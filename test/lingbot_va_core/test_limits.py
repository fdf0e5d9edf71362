"""Limits only ever tighten."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.limits import JointLimits, LimitError, describe

seeds = st.integers(0, 2**32 - 1)


def limits(lower: float = -1, upper: float = 1, velocity: float = 2, acceleration: float = 3) -> JointLimits:
    return JointLimits(*(np.array(pair) for pair in ([-1, lower], [1, upper], [2, velocity], [3, acceleration])))


@given(seeds)
def test_two_sources_leave_the_tighter_of_both(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, two = (JointLimits(*(random.choice([*random.normal(size=4), sign * np.inf], 5) for sign in (-1, 1, 1, 1)))
                for _ in range(2))  # fmt: skip
    both = one.tightened(two)
    for source in (one, two):
        assert (both.lower >= source.lower).all()
        for name in ('upper', 'velocity', 'acceleration'):
            assert (getattr(both, name) <= getattr(source, name)).all()
    for name in vars(both):
        value = getattr(both, name)
        assert ((value == getattr(one, name)) | (value == getattr(two, name))).all()


def test_a_margin_is_kept_from_both_ends() -> None:
    inset = limits().inset(np.array([0.1, 0.2]))
    assert inset.lower.tolist() == [-0.9, -0.8]
    assert inset.upper.tolist() == [0.9, 0.8]


@pytest.mark.parametrize(('change', 'message'), [
    ({'lower': 1.0}, 'elbow may move from 1 to 1, margins included, which is no finite range'),
    ({'upper': np.inf}, 'elbow may move from -1 to inf'),
    ({'velocity': np.inf}, 'elbow has the velocity limit inf; it must be above 0 and finite'),
    ({'acceleration': 0.0}, 'elbow has the acceleration limit 0'),
    ({'velocity': np.nan}, 'elbow has the velocity limit nan'),
])  # fmt: skip
def test_a_joint_without_room_is_named(change: dict[str, float], message: str) -> None:
    limits().require_room(['waist', 'elbow'])
    with pytest.raises(LimitError, match=message):
        limits(**change).require_room(['waist', 'elbow'])


def test_limits_have_names() -> None:
    assert describe(1 | 4 | 16) == 'position, acceleration, unreachable'
    assert describe(0) == ''
