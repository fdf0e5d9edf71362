"""Values of each kind blend in their own way, and what is no action is refused."""

import numpy as np
import pytest

from lingbot_va_core.action_layout import ActionError, ActionLayout
from lingbot_va_core.rotations import from_rotation_vectors, to_rotation_vectors

CHANNELS = np.array([*range(7), 28, *range(21, 28), 29])  # pose and gripper on the left, joints on the right
LAYOUT = ActionLayout.from_channels(CHANNELS)


def action(x: float, angle: float, gripper: float) -> np.ndarray:
    turn = from_rotation_vectors(np.array([0.0, 0.0, angle]))
    return np.concatenate([[x, 0.0, 0.0], turn, [gripper], np.full(7, x), [gripper]])


def test_the_kinds_are_found_by_their_channels() -> None:
    assert LAYOUT.size == 16
    assert LAYOUT.poses.tolist() == [list(range(7))]
    assert LAYOUT.grippers.tolist() == [7, 15]
    assert LAYOUT.joints.tolist() == list(range(7, 16))


def test_two_poses_in_any_order() -> None:
    layout = ActionLayout.from_channels(np.array([*range(7, 14), 29, *range(7), 28]))
    assert layout.poses.tolist() == [list(range(7)), list(range(8, 15))]
    assert layout.grippers.tolist() == [7, 15]


def test_quaternions_blend_along_the_arc_and_all_else_along_the_line() -> None:
    blend = LAYOUT.interpolate(action(0, 0, 0.02)[None], action(1, 2.0, 0.06)[None], np.array([0.25]))[0]
    np.testing.assert_allclose(to_rotation_vectors(blend[3:7]), [0, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(blend[[0, 7, 8, 15]], [0.25, 0.03, 0.25, 0.03])


def test_a_crossfade_takes_grippers_from_the_new_plan_alone() -> None:
    old, new = (np.repeat(action(*v)[None], 3, axis=0) for v in ((0, 0, 0.02), (1, 1, 0.06)))
    blend = LAYOUT.crossfade(old, new, np.array([0.0, 0.5, 1.0]))
    assert blend[:, [7, 15]].tolist() == [[0.06, 0.06]] * 3
    np.testing.assert_allclose(blend[:, 0], [0, 0.5, 1])
    np.testing.assert_allclose(to_rotation_vectors(blend[:, 3:7])[:, 2], [0, 0.5, 1], atol=1e-12)


def test_signs_go_on_from_the_action_before() -> None:
    actions = np.stack([action(0, 0.1 * k, 0) for k in range(4)])
    actions[2, 3:7] *= -2
    checked = LAYOUT.check(actions, -action(0, 0, 0))
    assert (np.sum(checked[1:, 3:7] * checked[:-1, 3:7], axis=1) > 0.99).all()
    np.testing.assert_allclose(np.linalg.norm(checked[:, 3:7], axis=1), 1)
    assert checked[0, 6] < 0


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda a: a[:, :-1], r'\[4, 15\]; they must be \[rows, 16\]'),
    (lambda a: a[0], r'the shape \[16\]'),
    (lambda a: np.where(np.arange(16) == 9, np.nan, a), 'value 9 of action 0 is nan'),
    (lambda a: np.where(np.arange(16) == 0, -np.inf, a), 'value 0 of action 0 is -inf'),
    (lambda a: np.where((np.arange(16) > 2) & (np.arange(16) < 7), 0, a), 'values 3 to 6 of the actions: a quaternion'),
])  # fmt: skip
def test_what_is_no_action_is_refused(spoil, message) -> None:
    with pytest.raises(ActionError, match=message):
        LAYOUT.check(spoil(np.stack([action(0, 0, 0)] * 4)))
