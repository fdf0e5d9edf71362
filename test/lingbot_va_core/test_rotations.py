"""Quaternions and the representations that data sets use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_core.rotations import (
    IDENTITY,
    RotationError,
    continuous,
    from_matrices,
    from_roll_pitch_yaw,
    from_rotation_vectors,
    from_wxyz,
    inverse,
    multiply,
    slerp,
    to_matrices,
    to_rotation_vectors,
    to_wxyz,
    unit_quaternions,
)

axes = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 1e-3)
angles = st.one_of(
    st.floats(-np.pi, np.pi),
    st.floats(-1e-6, 1e-6),
    st.floats(-1e-6, 1e-6).map(lambda distance: np.pi - distance),
    st.sampled_from([0.0, 5e-324, 1e-160, np.pi, -np.pi, np.pi / 2]),
)


@st.composite
def quaternions(draw: st.DrawFn) -> np.ndarray:
    """Unit quaternions of either sign, often of no turn and of half a turn."""
    axis, angle = np.array(draw(axes)), draw(angles)
    sine = np.sin(angle / 2) * axis / np.linalg.norm(axis)
    return draw(st.sampled_from([1.0, -1.0])) * np.array([*sine, np.cos(angle / 2)])


def assert_same_rotation(a: np.ndarray, b: np.ndarray, atol: float = 1e-12) -> None:
    """Compare up to the sign."""
    sign = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -1.0, 1.0)
    np.testing.assert_allclose(a * sign, b, rtol=0, atol=atol)


@given(quaternions())
def test_representations_give_the_rotation_back(q: np.ndarray) -> None:
    assert_same_rotation(from_matrices(to_matrices(q)), q)
    assert_same_rotation(from_rotation_vectors(to_rotation_vectors(q)), q)
    assert_same_rotation(from_wxyz(to_wxyz(q)), q)
    assert np.linalg.norm(to_rotation_vectors(q)) <= np.pi + 1e-12


@given(quaternions(), quaternions())
def test_products_are_those_of_matrices(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(to_matrices(multiply(a, b)), to_matrices(a) @ to_matrices(b), rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_matrices(inverse(a)), to_matrices(a).T, rtol=0, atol=1e-12)
    assert_same_rotation(multiply(inverse(a), multiply(a, b)), b)


@given(axes, st.floats(-1e-9, 1e-9))
def test_small_rotation_vectors_keep_their_digits(axis: tuple[float, float, float], angle: float) -> None:
    vector = np.array(axis) * angle
    np.testing.assert_allclose(to_rotation_vectors(from_rotation_vectors(vector)), vector, rtol=1e-12, atol=1e-300)


def test_batches_agree_with_scipy() -> None:
    rotation = pytest.importorskip('scipy.spatial.transform').Rotation
    random = np.random.default_rng(0)
    vectors, euler = random.normal(size=(2, 500, 3)) * 2
    theirs = rotation.from_rotvec(vectors)
    assert_same_rotation(from_rotation_vectors(vectors), theirs.as_quat())
    assert_same_rotation(from_matrices(theirs.as_matrix()), theirs.as_quat())
    np.testing.assert_allclose(to_matrices(theirs.as_quat()), theirs.as_matrix(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(to_rotation_vectors(theirs.as_quat()), theirs.as_rotvec(), rtol=0, atol=1e-12)
    assert_same_rotation(from_roll_pitch_yaw(euler), rotation.from_euler('xyz', euler).as_quat())
    others = rotation.random(500, rng=1)
    assert_same_rotation(multiply(theirs.as_quat(), others.as_quat()), (theirs * others).as_quat())


def test_known_rotations() -> None:
    half = np.sqrt(0.5)
    np.testing.assert_allclose(from_roll_pitch_yaw(np.array([0, 0, np.pi / 2])), [0, 0, half, half], atol=1e-15)
    np.testing.assert_allclose(to_matrices(np.array([0, 0, half, half])) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(from_wxyz(np.array([1.0, 0, 0, 0])), IDENTITY)
    np.testing.assert_allclose(from_matrices(np.diag([-1.0, 1.0, -1.0])), [0, 1, 0, 0])


@pytest.mark.parametrize('shape', [(), (3,), (2, 3), (0,), (2, 0)])
def test_every_leading_shape_is_kept(shape: tuple[int, ...]) -> None:
    q = np.broadcast_to([0.6, 0.0, 0.0, 0.8], (*shape, 4))
    assert unit_quaternions(q).shape == (*shape, 4)
    assert to_matrices(q).shape == (*shape, 3, 3)
    assert from_matrices(to_matrices(q)).shape == (*shape, 4)
    assert from_rotation_vectors(to_rotation_vectors(q)).shape == (*shape, 4)
    assert from_roll_pitch_yaw(np.zeros((*shape, 3))).shape == (*shape, 4)


@st.composite
def trajectories(draw: st.DrawFn) -> np.ndarray:
    """Smooth rotations through several turns, [T, 4], with signs as a sensor without memory gives them."""
    steps = draw(st.lists(st.tuples(axes, st.floats(0, 1.0)), min_size=1, max_size=12))
    q, out = draw(quaternions()), []
    for axis, angle in steps:
        q = multiply(q, from_rotation_vectors(np.array(axis) / np.linalg.norm(axis) * angle))
        out.append(q)
    signs = draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=len(out), max_size=len(out)))
    return np.array(out) * np.array(signs)[:, None]


@given(trajectories())
def test_signs_do_not_jump_along_a_trajectory(q: np.ndarray) -> None:
    smooth = continuous(q)
    assert (np.sum(smooth[1:] * smooth[:-1], axis=-1) > 0).all()
    assert smooth[0, 3] >= 0
    np.testing.assert_array_equal(np.abs(smooth), np.abs(q))
    assert_same_rotation(smooth, q)
    np.testing.assert_array_equal(continuous(smooth), smooth)


@given(trajectories(), st.integers(0, 12))
def test_signs_do_not_jump_between_chunks(q: np.ndarray, cut: int) -> None:
    whole, head = continuous(q), continuous(q[:cut])
    tail = continuous(q[cut:], head[-1] if len(head) else IDENTITY)
    np.testing.assert_array_equal(np.concatenate([head, tail]), whole)


def test_batches_of_trajectories_are_independent() -> None:
    q = unit_quaternions(np.random.default_rng(0).normal(size=(3, 2, 9, 4)))
    smooth = continuous(q)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(smooth[i, j], continuous(q[i, j]))


@pytest.mark.parametrize('bad', [[0.0] * 4, [1e-4, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_what_is_no_quaternion_is_refused(bad: list[float]) -> None:
    q = np.tile(IDENTITY, (2, 3, 1))
    q[1, 2] = bad
    with pytest.raises(RotationError, match=r'must be finite and at least 0.001 long; .* the one at \[1, 2\] is \['):
        unit_quaternions(q)


@pytest.mark.parametrize('bad', [np.zeros((3, 3)), 2 * np.eye(3), -np.eye(3), np.full((3, 3), np.nan), np.ones((3, 3))])
def test_what_is_no_rotation_matrix_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(RotationError, match=r'orthonormal within 0.001, with determinant 1; the one at \[1\]'):
        from_matrices(np.stack([np.eye(3), bad]))


def test_other_shapes_and_infinite_angles_are_refused() -> None:
    with pytest.raises(RotationError, match=r'the shape \(3,\) does not end in 4'):
        unit_quaternions(np.ones(3))
    with pytest.raises(RotationError, match=r'the shape \(9,\) does not end in 3, 3'):
        from_matrices(np.ones(9))
    with pytest.raises(RotationError, match=r'must be finite; the one at \[0\] is \[inf'):
        from_rotation_vectors(np.array([[np.inf, 0, 0]]))


@given(quaternions(), axes, st.floats(0, 3.1), st.floats(0, 1), st.booleans())
def test_slerp_turns_at_a_constant_rate_the_shorter_way(
    a: np.ndarray, axis: tuple[float, float, float], angle: float, fraction: float, flipped: bool
) -> None:
    turn = np.array(axis) / np.linalg.norm(axis) * angle
    b = multiply(a, from_rotation_vectors(turn)) * (-1 if flipped else 1)
    between = slerp(a, b, np.array(fraction))
    assert_same_rotation(between, multiply(a, from_rotation_vectors(fraction * turn)), atol=1e-7)
    assert np.linalg.norm(between) == pytest.approx(1)
    assert between @ b >= 0
