"""The audit of a bag finds what was put into it."""

import json
import sqlite3
from contextlib import closing

import pytest
import recorded_motion
from recorded_motion import DT, T0, MotionBag, act, make, teleoperate
from rosbags.rosbag2 import StoragePlugin
from rosbags.typesys import get_types_from_msg

from lingbot_va_ros import cli
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.bag_audit import audit
from lingbot_va_ros.message_types import message_types

MS = 1_000_000


def look(bag: MotionBag) -> dict:
    with Bag(bag.close()) as opened:
        return audit(opened)


def test_a_good_bag_can_become_training_data(tmp_path):
    bag = MotionBag(tmp_path / 'bag', dropped='{}')
    teleoperate(bag, 2.0)
    report = look(bag)
    assert report['usable'] and report['teleoperated'] and report['reasons'] == []
    assert report['duration_s'] == pytest.approx(2.005)
    assert report['arm_skew_ms'] is None  # both arms in one message
    head, joints = report['topics']['/head/image_raw'], report['topics']['/joint_states']
    assert (head['count'], head['rate_hz'], head['gaps'], head['missing']) == (51, 25.0, 0, 0)
    assert (joints['rate_hz'], joints['delay_ms']) == (100.0, {'p50': 2.0, 'p99': 2.0})
    assert report['topics']['/right/commands']['delay_ms'] is None
    assert [(episode['frames'], episode['seconds']) for episode in report['episodes']] == [(25, 1.92)]


def test_gaps_drops_and_what_goes_backwards_are_counted(tmp_path):
    bag = MotionBag(tmp_path / 'bag', dropped=json.dumps({'/wrist/image_raw': 4}))
    teleoperate(bag, 3.0, outage=(1.0, 1.2))
    bag.joints(T0 + 500 * MS, delay_ns=50 * MS)
    report = look(bag)
    wrist = report['topics']['/wrist/image_raw']
    assert (wrist['gaps'], wrist['missing'], wrist['longest_gap_ms'], wrist['dropped']) == (1, 5, 240.0, 4)
    assert wrist['at_s'] == pytest.approx(0.965, abs=0.001)
    assert report['topics']['/joint_states']['backwards'] == 1
    assert report['reasons'] == ['the recorder dropped 4 messages on /wrist/image_raw']


def test_clocks_that_differ_are_found(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    for k in range(200):
        at = T0 + k * 10 * MS
        bag.joints(at, names=[0, 1, 2])
        bag.joints(at + 55 * MS, names=[3], delay_ns=-53 * MS)  # its clock is ahead
        bag.command(at)
        if k % 4 == 0:
            bag.image(0, at)
            bag.image(1, at, delay_ns=122 * MS)
    report = look(bag)
    assert report['camera_skew_ms']['wrist'] - report['camera_skew_ms']['head'] == pytest.approx(120)
    assert report['arm_skew_ms']['p50'] == pytest.approx(50, abs=6)
    assert any('wrist arrives +' in reason for reason in report['reasons'])
    assert any('the stamps of the arms are up to 55 ms apart' in reason for reason in report['reasons'])


def test_what_our_graph_did_is_listed(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    act(bag, 1, T0, 2)
    bag.solved(T0 + 600 * MS)
    report = look(bag)
    assert not report['teleoperated']
    assert report['episodes'] == [
        {'frames': 9, 'seconds': 0.64, 'held': 0, 'instruction': 'fold the towel', 'success': True}
    ]


def test_the_command_prints_a_table_and_tells_a_useless_bag_by_its_status(tmp_path, capsys):
    good, bad = MotionBag(tmp_path / 'good'), MotionBag(tmp_path / 'bad')
    teleoperate(good, 1.0)
    for k in range(50):
        bad.joints(T0 + k * DT)
    arguments = ['convert', '--check', str(good.close()), str(bad.close()), '--json', str(tmp_path / 'r.json')]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr().out
    assert '/wrist/image_raw' in printed and 'Can become training data: 1 episodes teleoperated' in printed
    assert '- has no image of head' in printed and 'Cannot become training data' in printed
    reports = json.loads((tmp_path / 'r.json').read_text())
    assert [report['usable'] for report in reports] == [True, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['bad', 'good', 'r.json']


def test_a_bag_that_does_not_say_what_was_to_be_done_needs_an_instruction(tmp_path):
    bag = MotionBag(tmp_path / 'bag', instruction='', dropped='{}')
    teleoperate(bag, 1.0)
    report = look(bag)
    assert report['usable']
    assert report['reasons'] == ['it does not say what was to be done; convert it with --instruction']


def test_messages_of_an_unknown_type_are_counted(tmp_path, monkeypatch):
    types = message_types.__wrapped__()
    types.register(get_types_from_msg('float64 force', 'others_msgs/msg/Touch'))
    monkeypatch.setattr(recorded_motion, 'STORE', types)
    bag = MotionBag(tmp_path / 'bag', StoragePlugin.SQLITE3, dropped='{}')
    teleoperate(bag, 1.0)
    for k in range(20):
        bag.add('/touch', T0 + k * 50 * MS, make('others_msgs/msg/Touch', force=1.0))
    with closing(sqlite3.connect(bag.close() / 'bag.db3')) as database:  # as older recorders leave it
        database.execute('DELETE FROM message_definitions')
        database.commit()
    with Bag(bag.path) as opened:
        report = audit(opened)
    assert report['usable'] and report['topics']['/touch']['rate_hz'] == 20.0
    assert report['reasons'] == ['/touch: messages of the unknown type others_msgs/msg/Touch were counted, not read']
