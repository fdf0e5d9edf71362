"""Poses in universal actions, relative to the first of the episode and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.poses import PoseError, absolute_actions, pose_channels, relative_actions
from lingbot_va_core.rotations import continuous, from_rotation_vectors, multiply, to_matrices

POSES = {'left': slice(0, 7), 'right': slice(7, 14)}
seeds = st.integers(0, 2**32 - 1)
sides = st.sets(st.sampled_from(['left', 'right']))


def mask_of(used: set[str], others: tuple[int, ...] = (14, 15, 28)) -> np.ndarray:
    mask = np.zeros(30, dtype=bool)
    mask[list(others)] = True
    for side in used:
        mask[POSES[side]] = True
    return mask


def episode(used: set[str], seed: int, length: int = 20, largest: float = np.pi) -> np.ndarray:
    """Actions [length, 30] whose tools wander smoothly and turn by up to `largest` rad; unused channels are zero."""
    random = np.random.default_rng(seed)
    actions = np.zeros((length, 30))
    mask = mask_of(used)
    for side in sorted(used):
        axis = random.normal(size=3)
        angle = np.linspace(0, random.choice([largest, random.uniform(0, largest)]), length)
        start = from_rotation_vectors(random.normal(size=3) * 2)
        turned = multiply(start, from_rotation_vectors(angle[:, None] * axis / np.linalg.norm(axis)))
        position = random.normal(size=3) + random.normal(size=(length, 3)).cumsum(axis=0) * 0.01
        actions[:, POSES[side]] = np.concatenate([position, continuous(turned)], axis=-1)
    joints = mask & (np.arange(30) >= 14)
    actions[:, joints] = random.normal(size=(length, joints.sum()))
    return actions


@given(sides, seeds)
def test_absolute_poses_come_back(used: set[str], seed: int) -> None:
    actions, mask = episode(used, seed), mask_of(used)
    relative = relative_actions(actions, mask, actions[0])
    np.testing.assert_allclose(absolute_actions(relative, mask, actions[0]), actions, rtol=0, atol=1e-12)


@given(sides, seeds)
def test_relative_poses_come_back(used: set[str], seed: int) -> None:
    origin, mask = episode(used, seed)[7], mask_of(used)
    relative = relative_actions(episode(used, seed + 1), mask, episode(used, seed + 1)[0])
    absolute = absolute_actions(relative, mask, origin)
    np.testing.assert_allclose(relative_actions(absolute, mask, origin), relative, rtol=0, atol=1e-12)


@given(seeds, st.floats(1e-9, 1e-2))
def test_turns_of_about_half_a_circle_neither_jump_nor_lose_accuracy(seed: int, past: float) -> None:
    actions, mask = episode({'left'}, seed, 40, np.pi + past), mask_of({'left'})
    actions[1::2, 3:7] *= -1
    relative = relative_actions(actions, mask, actions[0])
    assert (np.sum(relative[1:, 3:7] * relative[:-1, 3:7], axis=-1) > 0.99).all()
    expected = to_matrices(actions[0, 3:7]).T @ to_matrices(actions[:, 3:7])
    np.testing.assert_allclose(to_matrices(relative[:, 3:7]), expected, rtol=0, atol=1e-12)


def test_the_first_pose_is_the_origin() -> None:
    actions, mask = episode({'left', 'right'}, 0), mask_of({'left', 'right'})
    relative = relative_actions(actions, mask, actions[0])
    np.testing.assert_allclose(relative[0, :14], [0, 0, 0, 0, 0, 0, 1] * 2, rtol=0, atol=1e-15)


def test_the_way_is_along_the_axes_of_the_base_and_the_turn_about_those_of_the_tool() -> None:
    half = np.sqrt(0.5)
    actions = np.zeros((2, 30))
    actions[:, :7] = [[1, 2, 3, 0, 0, half, half], [1.5, 2, 3, 0.5, 0.5, 0.5, 0.5]]  # turn about z; then about x
    relative = relative_actions(actions, mask_of({'left'}), actions[0])
    np.testing.assert_allclose(relative[1, :7], [0.5, 0, 0, half, 0, 0, half], atol=1e-15)


@given(sides, seeds, st.integers(1, 19))
def test_chunks_join_without_a_jump(used: set[str], seed: int, cut: int) -> None:
    actions, mask = episode(used, seed, largest=3 * np.pi), mask_of(used)
    for change in (relative_actions, absolute_actions):
        whole = change(actions, mask, actions[0])
        head = change(actions[:cut], mask, actions[0])
        tail = change(actions[cut:], mask, actions[0], previous=head[-1])
        np.testing.assert_array_equal(np.concatenate([head, tail]), whole)


@given(sides, seeds, st.sampled_from([0.0, np.nan, np.inf, 7.0]))
def test_channels_outside_of_the_mask_are_never_read(used: set[str], seed: int, junk: float) -> None:
    mask = mask_of(used)
    clean = episode(used, seed)
    spoilt = np.where(mask, clean, junk)
    for change in (relative_actions, absolute_actions):
        result = change(spoilt, mask, spoilt[0], spoilt[3])
        np.testing.assert_array_equal(result, change(clean, mask, clean[0], clean[3]))
        assert not result[:, ~mask].any()
        np.testing.assert_array_equal(result[:, 14:], clean[:, 14:])


def test_batches_are_independent() -> None:
    mask = mask_of({'left', 'right'})
    actions = np.stack([episode({'left', 'right'}, seed) for seed in range(6)]).reshape(3, 2, 20, 30)
    batch = relative_actions(actions, mask, actions[:, :, 0], actions[:, :, 1])
    for i, j in np.ndindex(3, 2):
        alone = relative_actions(actions[i, j], mask, actions[i, j, 0], actions[i, j, 1])
        np.testing.assert_array_equal(batch[i, j], alone)
    assert relative_actions(actions[:, :, :0], mask, actions[:, :, 0]).shape == (3, 2, 0, 30)


def test_predicted_quaternions_are_brought_to_length_one() -> None:
    actions, mask = episode({'left'}, 0), mask_of({'left'})
    relative = relative_actions(actions, mask, actions[0])
    relative[:, 3:7] *= np.linspace(0.5, 1.5, 20)[:, None]
    np.testing.assert_allclose(absolute_actions(relative, mask, actions[0]), actions, rtol=0, atol=1e-12)


def test_poses_are_found_by_the_mask() -> None:
    assert pose_channels(mask_of({'right'})).tolist() == [[*range(7, 14)]]
    assert pose_channels(mask_of({'left', 'right'})).tolist() == [[*range(7)], [*range(7, 14)]]
    assert pose_channels(mask_of(set())).shape == (0, 7)


def test_a_part_of_a_pose_is_refused() -> None:
    with pytest.raises(PoseError, match=r'only \[0, 1, 2\] of \[0, 1, 2, 3, 4, 5, 6\], which are one pose; use all or'):
        relative_actions(np.zeros((2, 30)), mask_of(set(), (0, 1, 2)), np.zeros(30))


@pytest.mark.parametrize('bad', ['actions', 'origin', 'previous'])
def test_padding_is_no_pose(bad: str) -> None:
    actions, mask = episode({'left', 'right'}, 0), mask_of({'left', 'right'})
    given_ = {'actions': actions, 'origin': actions[0], 'previous': actions[1]}
    given_[bad] = given_[bad].copy()
    given_[bad][..., 7:14] = 0.0
    with pytest.raises(PoseError, match=rf'{bad}, poses \[0, 7\]: a quaternion must be .* at \[.*1\] is \[0.0, 0.0'):
        relative_actions(given_['actions'], mask, given_['origin'], given_['previous'])


def test_values_that_are_not_finite_are_refused() -> None:
    actions, mask = episode({'left'}, 0), mask_of({'left'})
    spoilt = actions.copy()
    spoilt[4, 2] = np.nan
    with pytest.raises(PoseError, match=r'actions: channel 2 is nan at \[4\]; it must be finite'):
        absolute_actions(spoilt, mask, actions[0])


@pytest.mark.parametrize(
    ('shape', 'message'), [((4, 14), r'actions has the shape \(4, 14\)'), ((30,), r'must be \[..., T, 30\]')]
)
def test_other_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(PoseError, match=message):
        relative_actions(np.zeros(shape), mask_of({'left'}), np.zeros(30))
