"""The trajectory controller follows, replaces, holds and rejects as ros2_control's does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_sim.trajectory_controller import Trajectory, TrajectoryController, TrajectoryError

MS = 1_000_000
NAMES = ('waist', 'elbow', 'gripper')
HOME = np.array([0.1, -0.2, 0.03])

position = st.floats(-3.0, 3.0)
vectors = st.lists(st.tuples(position, position, position), min_size=1, max_size=8)
steps = st.lists(st.integers(1, 500), min_size=8, max_size=8)
moments = st.lists(st.integers(0, 5000), min_size=1, max_size=20)


def controller() -> TrajectoryController:
    return TrajectoryController(NAMES, HOME)


def trajectory(points: list, stride_ms: int = 100, **fields: object) -> Trajectory:
    times = [stride_ms * MS * (index + 1) for index in range(len(points))]
    return replace(Trajectory(None, NAMES, times, points), **fields)


def at(arm: TrajectoryController, time_ms: float) -> np.ndarray:
    return arm.sample(round(time_ms * MS))[0].copy()


def test_holds_the_first_pose_until_a_trajectory_comes() -> None:
    arm = controller()
    for time_ms in (0, 1, 10_000):
        assert np.array_equal(at(arm, time_ms), HOME)
        assert np.array_equal(arm.sample(time_ms * MS)[1], np.zeros(3))


@given(vectors, steps, moments)
def test_positions_only_move_linearly_within_the_hull_of_the_waypoints(points, strides, times_ms) -> None:
    arm = controller()
    arm.replace(trajectory(points, times_ns=np.cumsum(strides[: len(points)]) * MS), now_ns=0)
    corners = np.vstack([HOME, *points])
    for time_ms in times_ms:
        sample = at(arm, time_ms)
        assert (sample >= corners.min(axis=0) - 1e-12).all()
        assert (sample <= corners.max(axis=0) + 1e-12).all()


@given(vectors, steps, st.sampled_from(['linear', 'cubic', 'quintic']))
def test_hits_every_knot_exactly_and_holds_the_last(points, strides, kind) -> None:
    arm = controller()
    times = np.cumsum(strides[: len(points)]) * MS
    rates = [[0.5, -0.5, 0.25]] * (len(points) - 1) + [[0.0] * 3]
    derivatives = {
        'linear': {},
        'cubic': {'velocities': rates},
        'quintic': {'velocities': rates, 'accelerations': rates},
    }[kind]
    arm.replace(trajectory(points, times_ns=times, **derivatives), now_ns=0)
    for time, point in zip(times, points, strict=True):
        assert np.array_equal(arm.sample(int(time))[0], point)
    assert np.array_equal(arm.sample(int(times[-1]) + 3_600_000 * MS)[0], points[-1])


@given(vectors, vectors, st.integers(0, 1000), st.sampled_from([False, True]))
def test_replacement_starts_where_the_set_point_is(first, second, now_ms, smooth) -> None:
    arm = controller()
    arm.replace(trajectory(first), now_ns=0)
    before, velocity = (values.copy() for values in arm.sample(now_ms * MS))
    rest = [[0.0] * 3] * len(second)
    arm.replace(trajectory(second, velocities=rest if smooth else ()), now_ns=now_ms * MS)
    after, new_velocity = arm.sample(now_ms * MS)
    assert np.array_equal(after, before)
    if smooth:
        assert new_velocity == pytest.approx(velocity, abs=1e-9)
    np.testing.assert_allclose(at(arm, now_ms + 1e-6), before, atol=1e-3)
    assert np.array_equal(at(arm, now_ms + 100), second[0])


@pytest.mark.parametrize('fields', [('velocities',), ('velocities', 'accelerations')])
def test_splines_meet_the_velocities_that_points_ask_for(fields: tuple[str, ...]) -> None:
    arm = controller()
    rates = [[1.0, -2.0, 0.1], [0.0, 0.0, 0.0]]
    arm.replace(trajectory([[0.5, -0.5, 0.04], [0.6, -0.6, 0.05]], **dict.fromkeys(fields, rates)), now_ns=0)
    assert arm.sample(100 * MS)[1] == pytest.approx(rates[0])
    earlier, later = at(arm, 99.9), at(arm, 100.1)
    assert (later - earlier) / 0.0002 == pytest.approx(rates[0], rel=1e-2)


def test_velocity_is_the_slope_of_a_linear_segment() -> None:
    arm = controller()
    arm.replace(trajectory([HOME + np.array([0.2, 0.0, -0.01])]), now_ns=0)
    assert arm.sample(30 * MS)[1] == pytest.approx([2.0, 0.0, -0.1])
    assert np.array_equal(arm.sample(100 * MS)[1], np.zeros(3))


def test_takes_joints_in_any_order() -> None:
    arm = controller()
    arm.replace(trajectory([[0.05, 1.0, 2.0]], joint_names=('gripper', 'waist', 'elbow')), now_ns=0)
    assert np.array_equal(at(arm, 100), [1.0, 2.0, 0.05])


def test_no_stamp_means_now_and_a_stamp_means_that_instant() -> None:
    arm = controller()
    arm.replace(trajectory([[1.0, 1.0, 1.0]]), now_ns=5000 * MS)
    assert np.array_equal(at(arm, 5100), [1.0] * 3)
    arm.replace(trajectory([[2.0, 2.0, 2.0]], stamp_ns=5500 * MS), now_ns=5200 * MS)
    assert at(arm, 5400) == pytest.approx(1.5)  # from now to the first point, which is due at 5600
    assert np.array_equal(at(arm, 5600), [2.0] * 3)


def test_points_that_are_already_due_make_the_set_point_step() -> None:
    arm = controller()
    arm.replace(trajectory([[1.0] * 3, [2.0] * 3], stamp_ns=1000 * MS), now_ns=1150 * MS)
    assert at(arm, 1150) == pytest.approx(1.5)
    arm.replace(trajectory([[0.7] * 3], times_ns=[0]), now_ns=2000 * MS)
    assert np.array_equal(at(arm, 2000), [0.7] * 3)


@pytest.mark.parametrize(
    ('fields', 'reason'),
    [
        ({'joint_names': ('waist', 'elbow')}, 'missing gripper'),
        ({'joint_names': ()}, 'missing waist, elbow, gripper'),
        ({'joint_names': ('waist', 'elbow', 'wrist')}, 'missing gripper; unknown wrist'),
        ({'joint_names': ('waist', 'elbow', 'elbow')}, 'missing gripper; repeated elbow'),
        ({'times_ns': [], 'positions': []}, 'no points'),
        ({'times_ns': [100 * MS, 100 * MS]}, 'point 1 at 0.1 s follows 0.1 s'),
        ({'times_ns': [200 * MS, 100 * MS]}, 'does not increase'),
        ({'times_ns': [-1, 100 * MS]}, 'below 0'),
        ({'positions': [[0.0] * 3, [0.0] * 2]}, 'point 1 has 2 positions for 3 joints'),
        ({'positions': [[0.0] * 3, []]}, 'point 1 has no positions'),
        ({'positions': [[0.0] * 3] * 3}, '3 rows of positions for 2 points'),
        ({'positions': [[0.0, np.nan, 0.0], [0.0] * 3]}, 'point 0 has nan among its positions (elbow)'),
        ({'positions': [[0.0] * 3, [0.0, 0.0, np.inf]]}, 'inf'),
        ({'velocities': [[0.0] * 3, [0.0, np.nan, 0.0]]}, 'nan among its velocities'),
        ({'velocities': [[0.0] * 4, [0.0] * 3]}, '4 velocities for 3 joints'),
        ({'velocities': [[0.0] * 3, [0.0, 0.0, -0.2]]}, 'gripper has velocity -0.2 at the last point'),
        ({'accelerations': [[0.0] * 3] * 2}, 'accelerations without velocities'),
        ({'stamp_ns': 300 * MS}, 'the last point was due 500.0 ms ago'),
    ],
)
def test_rejects_with_a_reason_and_goes_on(fields: dict, reason: str) -> None:
    arm = controller()
    arm.replace(trajectory([[1.0] * 3]), now_ns=900 * MS)
    with pytest.raises(TrajectoryError) as caught:
        arm.replace(trajectory([[0.5] * 3, [0.6] * 3], **fields), now_ns=1000 * MS)
    assert reason in str(caught.value)
    assert '\n' not in str(caught.value)
    assert np.array_equal(at(arm, 1100), [1.0] * 3)


def test_hold_drops_the_trajectory() -> None:
    arm = controller()
    arm.replace(trajectory([[1.0] * 3]), now_ns=0)
    arm.hold(np.array([0.3, 0.2, 0.1]))
    assert np.array_equal(at(arm, 50), [0.3, 0.2, 0.1])


def test_positions_are_taken_at_once_by_order_or_by_name() -> None:
    arm = controller()
    arm.set_positions([0.1, 0.2, 0.3])
    assert np.array_equal(at(arm, 0), [0.1, 0.2, 0.3])
    arm.set_positions([9.0, 0.4], ['joint_of_another_arm', 'elbow'])
    assert np.array_equal(at(arm, 0), [0.1, 0.4, 0.3])


@pytest.mark.parametrize(
    ('positions', 'names', 'reason'),
    [
        ([0.0] * 2, None, '2 positions for 3 joints'),
        ([0.0] * 2, ['elbow'], '2 positions for 1 joints'),
        ([0.0, np.nan, 0.0], None, 'the position of elbow is nan'),
    ],
)
def test_positions_that_make_no_sense_are_rejected_and_change_nothing(
    positions: list[float], names: list[str] | None, reason: str
) -> None:
    arm = controller()
    arm.set_positions([0.1, 0.2, 0.3])
    with pytest.raises(TrajectoryError, match=reason):
        arm.set_positions(positions, names)
    assert np.array_equal(at(arm, 0), [0.1, 0.2, 0.3])
