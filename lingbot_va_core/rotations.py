"""Rotations as unit quaternions x y z w, from and to what data sets use; arrays of any leading shape, float64.

A rotation turns coordinates of a tool into those of its base, and `multiply(a, b)` is a after b. The quaternions q and
-q are one rotation; where a function has the choice, it returns w >= 0.
"""

import numpy as np

MIN_NORM = 1e-3  # below it, rounding of half-precision values decides the direction
MATRIX_TOLERANCE = 1e-3
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


class RotationError(ValueError):
    """Values that are no rotation."""


def unit_quaternions(quaternions: np.ndarray) -> np.ndarray:
    """Scale quaternions [..., 4] to length 1.

    Raises:
        RotationError: one is not finite or shorter than 0.001, as zero padding is.
    """
    quaternions = _array(quaternions, (4,))
    norms = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    _require(
        (norms[..., 0] >= MIN_NORM) & np.isfinite(norms[..., 0]),
        quaternions,
        f'a quaternion must be finite and at least {MIN_NORM} long; leave out what is padding or broken',
    )
    return quaternions / norms


def continuous(quaternions: np.ndarray, previous: np.ndarray = IDENTITY) -> np.ndarray:
    """Choose the signs along a trajectory [..., T, 4] such that neighbours lie on the same half of the sphere.

    Args:
        quaternions: unit quaternions in the order of time.
        previous: [..., 4], the one before the first, such as the last of the chunk before; without it, the first gets
            w >= 0.
    """
    quaternions = _array(quaternions, (4,))
    start = np.broadcast_to(previous, (*quaternions.shape[:-2], 4))[..., None, :]
    before = np.concatenate([start, quaternions[..., :-1, :]], axis=-2)[..., : quaternions.shape[-2], :]
    flips = np.where(np.sum(before * quaternions, axis=-1) < 0, -1.0, 1.0)
    return quaternions * np.cumprod(flips, axis=-1)[..., None]


def slerp(a: np.ndarray, b: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Turn from unit quaternions a to b [..., 4] at a constant rate, along the shorter way.

    K. Shoemake, Animating rotation with quaternion curves, 1985. The result has the sign of b where fraction is 1, and
    may begin at -a.

    Args:
        a: where fraction is 0.
        b: where fraction is 1.
        fraction: [...], 0 to 1.
    """
    cosine = np.sum(a * b, axis=-1)
    a, cosine = np.where(cosine[..., None] < 0, -a, a), np.abs(cosine)
    angle = np.arccos(np.minimum(cosine, 1.0))
    sine = np.maximum(np.sin(angle), 1e-8)
    near = angle < 1e-4  # the chord is the arc
    before = np.where(near, 1 - fraction, np.sin((1 - fraction) * angle) / sine)
    after = np.where(near, fraction, np.sin(fraction * angle) / sine)
    turned = before[..., None] * a + after[..., None] * b
    return turned / np.sqrt(np.sum(turned * turned, axis=-1, keepdims=True))


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton's product of quaternions [..., 4]: the rotation b, then a."""
    (ax, ay, az, aw), (bx, by, bz, bw) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=-1,
    )


def inverse(quaternions: np.ndarray) -> np.ndarray:
    """Return the rotations back, of unit quaternions [..., 4]."""
    return quaternions * np.array([-1.0, -1.0, -1.0, 1.0])


def from_wxyz(quaternions: np.ndarray) -> np.ndarray:
    """Read quaternions [..., 4] that have w first, as MuJoCo's, SAPIEN's and transforms3d's do."""
    return unit_quaternions(_array(quaternions, (4,))[..., [1, 2, 3, 0]])


def to_wxyz(quaternions: np.ndarray) -> np.ndarray:
    """Return quaternions [..., 4] with w first."""
    return unit_quaternions(quaternions)[..., [3, 0, 1, 2]]


def from_matrices(matrices: np.ndarray) -> np.ndarray:
    """Return quaternions [..., 4] of rotation matrices [..., 3, 3].

    By the largest of the four components (S. W. Shepperd, Quaternion from rotation matrix, 1978), which is exact at
    every angle: each row of 4 q q^T is a multiple of q.

    Raises:
        RotationError: a matrix is not orthonormal within 0.001, or mirrors.
    """
    r = _array(matrices, (3, 3))
    with np.errstate(invalid='ignore', over='ignore'):
        error = np.abs(r @ np.swapaxes(r, -1, -2) - np.eye(3)).max(axis=(-1, -2))
        proper = (error <= MATRIX_TOLERANCE) & (np.linalg.det(r) > 0)
    _require(proper, r, f'a rotation matrix must be orthonormal within {MATRIX_TOLERANCE}, with determinant 1')
    x, y, z = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    xy, xz, yz = r[..., 1, 0] + r[..., 0, 1], r[..., 2, 0] + r[..., 0, 2], r[..., 2, 1] + r[..., 1, 2]
    xw, yw, zw = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    rows = np.stack(
        [1 + x - y - z, xy, xz, xw, xy, 1 - x + y - z, yz, yw, xz, yz, 1 - x - y + z, zw, xw, yw, zw, 1 + x + y + z],
        axis=-1,
    ).reshape(*x.shape, 4, 4)
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    row = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    return _positive(unit_quaternions(row))


def to_matrices(quaternions: np.ndarray) -> np.ndarray:
    """Return rotation matrices [..., 3, 3] of quaternions [..., 4]: the columns are the turned axes."""
    q = unit_quaternions(quaternions)
    axes = np.concatenate([np.eye(3), np.zeros((3, 1))], axis=-1)
    turned = multiply(multiply(q[..., None, :], axes), inverse(q)[..., None, :])
    return np.swapaxes(turned[..., :3], -1, -2)


def from_rotation_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return quaternions [..., 4] of rotation vectors [..., 3]: axis times angle in rad (LIBERO's axis-angle).

    The exponential map (F. S. Grassia, Practical parameterization of rotations, 1998), exact for small angles.
    """
    vectors = _array(vectors, (3,))
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    _require(np.isfinite(angle[..., 0]), vectors, 'a rotation must be finite')
    return _positive(np.concatenate([vectors * np.sinc(angle / (2 * np.pi)) / 2, np.cos(angle / 2)], axis=-1))


def to_rotation_vectors(quaternions: np.ndarray) -> np.ndarray:
    """Return rotation vectors [..., 3] in rad, at most pi long, of quaternions [..., 4]."""
    q = _positive(unit_quaternions(quaternions))
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., 3:])
    return q[..., :3] * np.divide(angle, sine, out=np.full_like(sine, 2.0), where=sine > np.finfo(float).tiny)


def from_roll_pitch_yaw(angles: np.ndarray) -> np.ndarray:
    """Return quaternions [..., 4] of angles [..., 3] in rad about the fixed axes x, then y, then z (URDF, DROID)."""
    roll, pitch, yaw = np.moveaxis(from_rotation_vectors(_array(angles, (3,))[..., None] * np.eye(3)), -2, 0)
    return _positive(multiply(yaw, multiply(pitch, roll)))


def _positive(quaternions: np.ndarray) -> np.ndarray:
    return np.where(quaternions[..., 3:] < 0, -quaternions, quaternions)


def _array(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-len(shape) :] != shape:
        raise RotationError(f'the shape {values.shape} does not end in {", ".join(map(str, shape))}')
    return values


def _require(good: np.ndarray, values: np.ndarray, what: str) -> None:
    if not np.all(good):
        index = tuple(np.argwhere(~good)[0].tolist())
        raise RotationError(f'{what}; the one at {list(index)} is {values[index].tolist()}')
