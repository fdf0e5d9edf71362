"""Joints and commands at any instant."""

import numpy as np

from lingbot_va_core.tracks import CommandTrack, JointTrack

MS = 1_000_000


def test_measured_positions_lie_between_samples_that_are_near():
    track = JointTrack(2, max_gap_ns=100 * MS, history_ns=1000 * MS)
    for at, value in ((0, 0.0), (20, 1.0), (200, 5.0)):
        track.push(at * MS, (0, 1), np.array([value, -value]))
    assert track.at(5 * MS).tolist() == [0.25, -0.25]
    assert track.at(20 * MS).tolist() == [1.0, -1.0]
    assert np.isnan(track.at(50 * MS)).all()  # a gap
    assert np.isnan(track.at(201 * MS)).all()  # nothing after it
    assert np.isnan(track.at(-1)).all()
    assert track.covers(200 * MS) and not track.covers(201 * MS)


def test_arms_may_be_measured_in_messages_of_their_own():
    track = JointTrack(2, 100 * MS, 1000 * MS)
    track.push(0, (0,), np.array([0.0]))
    track.push(10 * MS, (0,), np.array([1.0]))
    assert np.isnan(track.at(5 * MS)[1])
    track.push(4 * MS, (1,), np.array([7.0]))
    assert track.covers(4 * MS) and not track.covers(5 * MS)
    track.push(14 * MS, (1,), np.array([8.0]))
    assert track.at(9 * MS).tolist() == [0.9, 7.5]


def test_samples_that_are_not_newer_are_ignored_and_old_ones_forgotten():
    track = JointTrack(1, 100 * MS, history_ns=50 * MS)
    for at in range(0, 100, 10):
        track.push(at * MS, (0,), np.array([float(at)]))
    track.push(40 * MS, (0,), np.array([-1.0]))
    assert track.at(45 * MS).tolist() == [45.0]
    assert np.isnan(track.at(20 * MS)).all()


def test_samples_are_in_force_until_the_next_one():
    track = CommandTrack(2)
    for at, value in ((10, 1.0), (30, 2.0)):
        track.push(at * MS, (0,), np.zeros(1, np.int64), np.array([[value]]))
    assert np.isnan(track.at(9 * MS)).all()
    assert track.at(10 * MS)[0] == 1.0 and track.at(29 * MS)[0] == 1.0
    assert track.at(30 * MS)[0] == 2.0 and track.at(900 * MS)[0] == 2.0
    assert np.isnan(track.at(901 * MS)[1])


def test_a_trajectory_starts_where_the_command_stands_and_holds_at_its_end():
    track = CommandTrack(1)
    track.push(-1, (0,), np.zeros(1, np.int64), np.array([[1.0]]))
    track.push(0, (0,), np.array([10 * MS, 20 * MS]), np.array([[2.0], [4.0]]))
    track.push(15 * MS, (0,), np.array([10 * MS]), np.array([[0.0]]))  # replaces it on its way
    assert track.at(5 * MS)[0] == 1.5
    assert track.at(15 * MS)[0] == 3.0
    assert track.at(20 * MS)[0] == 1.5
    assert track.at(99 * MS)[0] == 0.0


def test_after_a_jump_of_the_clock_the_command_stays_in_force():
    track = CommandTrack(1)
    track.push(50 * MS, (0,), np.zeros(1, np.int64), np.array([[3.0]]))
    assert track.at(60 * MS)[0] == 3.0
    track.restart()
    assert track.at(1 * MS)[0] == 3.0


def test_a_copy_goes_on_with_the_trajectories_in_progress():
    track = CommandTrack(1)
    at_once, ramp = np.zeros(1, np.int64), np.array([100 * MS])
    track.push(0, (0,), at_once, np.array([[0.0]]))
    track.push(10 * MS, (0,), ramp, np.array([[1.0]]))
    track.push(80 * MS, (0,), ramp, np.array([[9.0]]))
    assert track.at(60 * MS)[0] == 0.5
    copy = track.copy()
    assert track.at(70 * MS)[0] == 0.6  # which the copy knows nothing of
    copy.push(10 * MS, (0,), ramp, np.array([[1.0]]))  # both are read again
    copy.push(80 * MS, (0,), ramp, np.array([[9.0]]))
    assert copy.at(65 * MS)[0] == 0.55
    assert copy.at(130 * MS)[0] == track.at(130 * MS)[0] == 0.7 + 8.3 / 2


def test_commands_that_come_after_their_instant_are_counted():
    track = CommandTrack(1)
    for at in (10, 40, 40):
        track.push(at * MS, (0,), np.zeros(1, np.int64), np.array([[1.0]]))
        track.at(40 * MS)
    track.push(39 * MS, (0,), np.zeros(1, np.int64), np.array([[1.0]]))
    assert track.late == 1
    track.pass_by(20 * MS)
    track.push(39 * MS, (0,), np.zeros(1, np.int64), np.array([[1.0]]))
    assert track.late == 2


def test_the_first_sample_may_stand_for_what_was_just_before():
    track = JointTrack(1, 100 * MS, 1000 * MS)
    for at in (200, 220):
        track.push(at * MS, (0,), np.array([float(at)]))
    assert track.at(150 * MS, early=True).tolist() == [200.0]
    assert np.isnan(track.at(150 * MS)).all() and np.isnan(track.at(99 * MS, early=True)).all()
