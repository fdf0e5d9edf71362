"""What a bag says about time: late messages, clocks that are set, marks, and commands in progress.

Each part is read a second time, as when it is written, and must give the same motion again.
"""

import numpy as np
import pytest
from recorded_motion import DT, PROFILE, T0, VIDEO, MotionBag, act, commanded, header, make, teleoperate

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.resampling import Row
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.bag_motion import MotionReader, Span
from lingbot_va_ros.bag_plan import BagPlan, plan_bag

MS = 1_000_000


def plan(bag: MotionBag) -> tuple[BagPlan, list[list[Row]]]:
    """Find the parts of a bag, and read each as when it is written."""
    with Bag(bag.close()) as opened:
        found = plan_bag(opened, PROFILE)
        parts = []
        for part in found.parts:
            rows = [row for _, row in MotionReader(opened, PROFILE, [part.span]).read(part.start_ns)][: part.frames]
            assert len(rows) == part.frames and all(isinstance(row, Row) for row in rows)
            parts.append(rows)
    return found, parts


def commands(rows: list[Row]) -> np.ndarray:
    """What was commanded at the end of each control period."""
    return np.concatenate([row.commands for row in rows[1:]])


def mark(bag: MotionBag, *events: tuple[float, str]) -> None:
    for seconds, event in events:
        bag.event(T0 + round(seconds * 1000) * MS, event)


def trajectory(bag: MotionBag, at_ns: int, after_ns: int, value: float) -> None:
    """Command the left arm to go to a value within a time."""
    none = np.array([])
    after = make('builtin_interfaces/msg/Duration', sec=after_ns // NANOSECONDS, nanosec=after_ns % NANOSECONDS)
    point = make(
        'trajectory_msgs/msg/JointTrajectoryPoint', positions=np.full(2, value), velocities=none, accelerations=none,
        effort=none, time_from_start=after,
    )  # fmt: skip
    bag.add('/left/joint_trajectory', at_ns + 2 * MS, make(
        'trajectory_msgs/msg/JointTrajectory', header=header(at_ns), joint_names=['left_a', 'left_b'],
        points=[point]))  # fmt: skip


def without(bag: MotionBag, topic: str, begin_ns: int = 0, end_ns: int = 2**63) -> None:
    bag._messages = [m for m in bag._messages if m[1] != topic or not begin_ns <= m[0] < end_ns]


def delay(bag: MotionBag, topic: str, by_ns: int) -> None:
    bag._messages = [(log + by_ns * (name == topic), name, *rest) for log, name, *rest in bag._messages]


def append(bag: MotionBag, later: MotionBag, by_ns: int) -> None:
    """Add what was received later, with stamps as they are: the clock was set back."""
    bag._messages += [(log + by_ns, *rest) for log, *rest in later._messages]


def test_a_trajectory_in_progress_where_an_episode_begins_goes_on(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 4.0)
    without(bag, '/left/joint_trajectory')
    trajectory(bag, T0, 0, 0.0)
    trajectory(bag, T0 + DT, 4 * NANOSECONDS - DT, 4.0 - DT / NANOSECONDS)
    mark(bag, (2.0, 'start'), (3.5, 'stop'))
    _, [rows] = plan(bag)
    begin = rows[0].instant_ns
    assert begin == T0 + 2 * NANOSECONDS
    wanted = [(begin + (k + 1) * DT - T0 - DT) / NANOSECONDS for k in range(len(commands(rows)))]
    assert np.allclose(commands(rows)[:, 0], wanted)


def test_a_stream_of_overlapping_trajectories_is_the_same_in_both_passes(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 3.0)
    without(bag, '/left/joint_trajectory')
    random = np.random.default_rng(1)
    for k in range(150):
        trajectory(bag, T0 + k * DT, 300 * MS, float(random.normal()))
    for name in ('whole', 'marked'):
        other = MotionBag(tmp_path / name)
        other._messages = list(bag._messages)
        if name == 'whole':
            _, [whole] = plan(other)
            continue
        mark(other, (1.6, 'start'), (2.6, 'stop'))
        _, [part] = plan(other)
    first = next(i for i, row in enumerate(whole) if row.instant_ns == part[0].instant_ns)
    assert np.array_equal(commands(part), commands(whole[first:])[: len(commands(part))], equal_nan=True)


@pytest.mark.parametrize('topic', ['/joint_states', '/left/joint_trajectory', '/head/image_raw', '/wrist/image_raw'])
def test_stamps_count_and_not_the_order_of_reception(tmp_path, topic):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 2.0)
    delay(bag, topic, 600 * MS)
    found, [rows] = plan(bag)
    assert found.notes == [] and [row.instant_ns for row in rows] == [T0 + k * VIDEO for k in range(25)]
    assert np.allclose(commands(rows)[:, :2], [commanded(T0 + (k + 1) * DT)[:2] for k in range(96)])
    assert found.parts[0].held == 0


def test_commands_that_come_too_late_are_told(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 4.0)
    delay(bag, '/left/joint_trajectory', 2500 * MS)
    found, _ = plan(bag)
    assert 'commands were received more than 1 s after their stamp' in found.notes[-1]


def test_an_episode_whose_joints_are_measured_a_little_later_is_kept(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 2)
    without(bag, '/joint_states', end_ns=T0 + 100 * MS)
    found, [rows] = plan(bag)
    assert found.notes == [] and found.parts[0].frames == 9
    assert np.array_equal(rows[0].states[0], rows[1].states[0])


def test_an_episode_whose_joints_are_measured_much_later_is_told(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 2)
    act(bag, 2, T0 + NANOSECONDS, 1)
    without(bag, '/joint_states', end_ns=T0 + 300 * MS)
    found, _ = plan(bag)
    assert [part.attributes['episode'] for part in found.parts] == [2]
    assert 'no measured position of left_a' in found.notes[0] and 'the episode is cut there' in found.notes[0]


def test_an_episode_without_images_is_told(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 2)
    act(bag, 2, T0 + NANOSECONDS, 1, task=2)
    without(bag, '/wrist/image_raw', T0 + 900 * MS)
    found, _ = plan(bag)
    assert [part.attributes['episode'] for part in found.parts] == [1]
    assert 'task 2 at 1700000000.960 s' in found.notes[-1] and 'no instant with an image of every' in found.notes[-1]


def test_marks_belong_to_what_was_received_around_them_when_the_clock_is_set_back(tmp_path):
    bag, later = MotionBag(tmp_path / 'bag'), MotionBag(tmp_path / 'later')
    for each, marks in ((bag, ((0.2, 'start'), (1.2, 'stop'))), (later, ((0.12, 'start'), (1.0, 'stop')))):
        teleoperate(each, 1.5)
        mark(each, *marks)
    append(bag, later, 2 * NANOSECONDS)
    found, parts = plan(bag)
    assert [(part.attributes['recorded_episode'], part.span.begin_ns - T0, part.frames) for part in found.parts] == [
        (1, 200 * MS, 13),
        (2, 120 * MS, 9),
    ]
    assert all(np.allclose(commands(rows)[0, :2], commanded(rows[0].instant_ns + DT)[:2]) for rows in parts)
    assert all(log > T0 + 2 * NANOSECONDS for log, _ in parts[1][0].frames)


def test_a_clock_that_is_set_back_within_an_episode_cuts_it(tmp_path):
    bag, later = MotionBag(tmp_path / 'bag'), MotionBag(tmp_path / 'later')
    teleoperate(bag, 1.5)
    mark(bag, (0.2, 'start'))
    teleoperate(later, 1.5)
    mark(later, (1.0, 'stop'))
    append(bag, later, 2 * NANOSECONDS)
    found, _ = plan(bag)
    assert [part.span.begin_ns - T0 for part in found.parts] == [200 * MS, 0]
    assert found.parts[1].span.end_ns <= T0 + NANOSECONDS
    assert 'jump by -1.500 s' in found.notes[0]


def test_a_mark_of_another_clock_counts_when_it_was_received(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 2.0)
    mark(bag, (0.51, 'start'), (1.4, 'stop'))
    bag._messages = [(log_ns + 10**18, *rest) for log_ns, *rest in bag._messages]
    stop = bag._messages.pop()
    start = bag._messages.pop()
    bag.event(start[0], 'start')  # stamped before the simulation's clock was heard
    bag._messages.append(stop)
    found, _ = plan(bag)
    assert [(part.span.begin_ns - T0, part.frames) for part in found.parts] == [(520 * MS, 9)]


def test_an_episode_of_the_graph_is_judged_by_the_mark_around_it(tmp_path):
    bag, later = MotionBag(tmp_path / 'bag'), MotionBag(tmp_path / 'later')
    act(bag, 1, T0, 4)
    mark(bag, (-0.1, 'start'), (1.3, 'discard'))
    later.joints(T0 - 60 * MS)
    act(later, 2, T0, 4, task=2)
    mark(later, (-0.1, 'start'), (1.35, 'success'))
    append(bag, later, 2 * NANOSECONDS)
    found, _ = plan(bag)
    assert [(part.attributes['episode'], part.success) for part in found.parts] == [(2, True)]


def test_a_mark_that_gives_nothing_is_told(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 1.0)
    mark(bag, (0.1, 'start'), (0.8, 'stop'), (3.0, 'start'), (4.0, 'stop'))
    found, [_] = plan(bag)
    assert 'episode 2 of the recording: there is no instant with an image' in found.notes[0]
    run = MotionBag(tmp_path / 'run')
    act(run, 1, T0, 2)
    mark(run, (-0.1, 'start'), (0.7, 'stop'), (0.75, 'start'))
    found, [_] = plan(run)
    assert found.notes == [f'{run.path}: episode 2 of the recording: no task began within it']


@pytest.mark.parametrize(('reported', 'success'), [((), None), ((False,), False), ((False, True), True)])
def test_success_is_unknown_where_nothing_reports_it(tmp_path, reported, success):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 1)
    for k, value in enumerate(reported):
        bag.add('/task_success', T0 + k * VIDEO, make('std_msgs/msg/Bool', data=value))
    found, _ = plan(bag)
    assert [part.success for part in found.parts] == [success]


def test_a_reader_without_spans_ends(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 0.2)
    with Bag(bag.close()) as opened:
        assert list(MotionReader(opened, PROFILE, [Span(T0 + NANOSECONDS)]).read()) == []


@pytest.mark.parametrize('ended', [False, True])
def test_runs_of_graphs_that_count_from_one_are_told_apart(tmp_path, ended):
    bag = MotionBag(tmp_path / 'bag')
    first = act(bag, 1, T0, 3)
    if ended:
        bag.episode(T0 + NANOSECONDS, 0, task=0)
    for at_ns in (T0 + 400 * MS, T0 + 500 * MS):  # the announcement is latched, and sent again
        bag._messages.append((at_ns, *bag._messages[0][1:]))
    bag.solved(T0 + 900 * MS)
    second = act(bag, 1, T0 + 10 * NANOSECONDS, 8)
    found, parts = plan(bag)
    assert found.notes == []
    assert [part.frames for part in found.parts] == [13, 33] and [part.success for part in found.parts] == [True, False]
    for rows, actions in zip(parts, (first, second), strict=True):
        np.testing.assert_array_equal(np.concatenate([row.actions for row in rows[1:]]), np.concatenate(actions))


@pytest.mark.parametrize('ahead_s', [3, 3600])
def test_commands_of_a_clock_that_is_ahead_count_from_their_reception_and_are_told(tmp_path, ahead_s, monkeypatch):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 3.0)
    without(bag, '/left/joint_trajectory')
    for k in range(151):
        at_ns = T0 + k * DT
        ahead = MotionBag(tmp_path / 'ahead')
        trajectory(ahead, at_ns + ahead_s * NANOSECONDS, 0, commanded(at_ns)[0])
        bag._messages += [(at_ns + 2 * MS, *rest) for _, *rest in ahead._messages]
    found, [rows] = plan(bag)
    assert any(note.startswith(f'{bag.path}: 151 commands were received') for note in found.notes)
    expected = [commanded(row.instant_ns)[0] for row in rows[1:]]
    # Half of a control period at most lies between a command's reception and its instant.
    np.testing.assert_allclose([row.commands[-1][0] for row in rows[1:]], expected, atol=0.1 * 1.5 * DT / NANOSECONDS)


def test_motion_of_the_graph_behind_the_end_of_a_mark_is_left_out_and_told(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 8)
    mark(bag, (-0.1, 'start'), (0.8, 'stop'), (0.9, 'start'), (1.5, 'discard'))
    found, [rows] = plan(bag)
    assert [part.frames for part in found.parts] == [9]
    assert max(row.instant_ns for row in rows) <= T0 + 800 * MS
    assert any('the recorded episode ended before the task' in note for note in found.notes)


def test_the_bag_says_what_was_to_be_done_before_the_caller_does(tmp_path):
    for name, fill, own in (('leader', teleoperate, 'wipe the table'), ('graph', None, 'fold the towel')):
        bag = MotionBag(tmp_path / name)
        fill(bag, 1.0) if fill else act(bag, 1, T0, 2)
        with Bag(bag.close()) as opened:
            assert [part.instruction for part in plan_bag(opened, PROFILE, 'dance').parts] == [own]
