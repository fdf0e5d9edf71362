"""A task's poses are relative to where it began, through every restart of its context."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.episode_poses import EpisodePoses
from lingbot_va_core.poses import PoseError, relative_actions
from lingbot_va_core.rotations import continuous, from_rotation_vectors

MASK = np.isin(np.arange(30), [*range(7), 28])


def wander(seed: int, length: int = 20) -> np.ndarray:
    """Absolute actions [length, 30] of a left tool that moves and turns."""
    random = np.random.default_rng(seed)
    actions = np.zeros((length, 30))
    actions[:, :3] = random.normal(size=3) + np.cumsum(random.normal(size=(length, 3)) * 0.01, axis=0)
    turns = from_rotation_vectors(np.cumsum(random.normal(size=(length, 3)) * 0.3, axis=0))
    actions[:, 3:7], actions[:, 28] = continuous(turns), random.random(length)
    return actions


@given(st.integers(0, 2**32 - 1))
def test_predicted_poses_become_absolute_and_executed_ones_relative_again(seed: int) -> None:
    actions, poses = wander(seed), EpisodePoses(MASK)
    assert poses.anchor(1, actions[0])
    relative = relative_actions(actions, MASK, actions[0])
    absolute = np.concatenate([poses.absolute(relative[:8]), poses.absolute(relative[8:])])
    np.testing.assert_allclose(absolute, actions, atol=1e-9)
    back = np.concatenate([poses.relative(absolute[:5]), poses.relative(absolute[5:])])
    np.testing.assert_allclose(back, relative, atol=1e-9)


def test_a_task_is_anchored_once() -> None:
    actions, poses = wander(0), EpisodePoses(MASK)
    assert poses.anchor(1, actions[0])
    assert not poses.anchor(1, actions[9])
    np.testing.assert_allclose(poses.relative(actions[9:10])[0, :3], actions[9, :3] - actions[0, :3])
    assert poses.anchor(2, actions[9])
    np.testing.assert_allclose(poses.relative(actions[9:10])[0, :7], [0, 0, 0, 0, 0, 0, 1], atol=1e-12)


def test_without_an_anchor_nothing_is_told() -> None:
    poses = EpisodePoses(MASK)
    for change in (poses.absolute, poses.relative):
        with pytest.raises(PoseError, match='no task is anchored'):
            change(wander(0))


def test_a_bad_anchor_or_prediction_leaves_the_anchor_as_it_was() -> None:
    actions, poses = wander(0), EpisodePoses(MASK)
    poses.anchor(1, actions[0])
    with pytest.raises(PoseError, match='must be finite'):
        poses.anchor(2, np.full(30, np.nan))
    assert poses.task == 1
    with pytest.raises(PoseError, match='a quaternion must be'):
        poses.absolute(np.zeros((4, 30)))
    np.testing.assert_allclose(poses.absolute(relative_actions(actions, MASK, actions[0])), actions, atol=1e-9)
