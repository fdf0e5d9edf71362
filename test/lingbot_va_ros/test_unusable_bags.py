"""Bags that cannot be converted: one line that says which, where and when; status 2; nothing is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import recorded_motion
from recorded_motion import STORE, T0, MotionBag, framed_profile, header, make, teleoperate
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from lingbot_va_ros import cli
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.bag_audit import audit

MS = 1_000_000


def without(topic: str) -> Callable[[MotionBag], None]:
    def change(bag: MotionBag) -> None:
        bag._messages = [message for message in bag._messages if message[1] != topic]

    return change


def another_type(bag: MotionBag) -> None:
    without('/head/image_raw')(bag)
    bag.add('/head/image_raw', T0, make('std_msgs/msg/Bool', data=True))


def nonsense(bag: MotionBag) -> None:
    bag._messages.append((T0 + 500 * MS, '/joint_states', 'sensor_msgs/msg/JointState', b'\0\1\0\0\xff\xff\xff\xff'))


def joints_without_a_stamp(bag: MotionBag) -> None:
    none = np.array([])
    bag.add('/joint_states', T0 + 500 * MS, make('sensor_msgs/msg/JointState', header=header(0), name=['left_a'],
                                                 position=np.zeros(1), velocity=none, effort=none))  # fmt: skip


def not_finite(bag: MotionBag) -> None:
    layout = make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
    bag.add('/right/commands', T0 + 500 * MS, make('std_msgs/msg/Float64MultiArray', layout=layout,
                                                  data=np.array([np.nan])))  # fmt: skip


def rectified(bag: MotionBag) -> None:
    bag._notes['profile'] = framed_profile('wrist', 'rectify: true')


@pytest.mark.parametrize(('change', 'says'), [
    (without('/wrist/image_raw'), 'has no image of wrist: neither /wrist/image_raw nor /wrist/image_raw/compressed'),
    (without('/joint_states'), 'has no message on /joint_states'),
    (without('/right/commands'), 'has no command of the right arm: no message on /right/commands'),
    (another_type, '/head/image_raw has messages of the type std_msgs/msg/Bool; sensor_msgs/msg/Image is expected'),
    (nonsense, 'the message on /joint_states at 1700000000.500 s (2023-11-14 22:13:20 UTC) cannot be read as'),
    (not_finite, 'the command on /right/commands at 1700000000.500 s (2023-11-14 22:13:20 UTC): a position is not'),
    (lambda bag: bag.image(0, T0 + 500 * MS, stamp=0), '/head/image_raw that was received at 1700000000.502 s'),
    (joints_without_a_stamp, '/joint_states that was received at 1700000000.500 s (2023-11-14 22:13:20 UTC) has no'),
    (lambda bag: bag.image(1, T0 + 500 * MS, width=32, step=96, height=96), '/wrist/image_raw at 1700000000.502 s'),
    (lambda bag: bag.image(1, T0 + 500 * MS, encoding='magic'), 'cannot be converted to rgb8'),
    (rectified, 'has no message on /wrist/camera_info, and wrist is to be rectified; record it, or leave rectify out'),
    (lambda bag: bag.event(T0, 'stop'), '/recording_events: stop: no episode is open'),
    (lambda bag: bag._notes.pop('profile'), 'names no robot profile; give one with --robot'),
    (lambda bag: bag._notes.pop('instruction'), 'does not say what was to be done; say it with --instruction'),
    (lambda bag: setattr(bag, '_messages', bag._messages[:40]), 'holds no episode of at least one latent frame'),
], ids=lambda value: None if callable(value) else value[:40])  # fmt: skip
def test_a_bag_that_lacks_something_is_refused(tmp_path, capsys, change, says):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 1.0)
    change(bag)
    refused(bag.close(), capsys, says)


def refused(bag: Path, capsys: pytest.CaptureFixture, says: str) -> None:
    before = sorted(bag.parent.iterdir())
    assert cli.main(['convert', str(bag), '--workers', '1', '--out', str(bag.parent / 'data')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and error.startswith('lingbot-va convert: error: ')
    assert says in error and str(bag) in error
    assert sorted(bag.parent.iterdir()) == before


def truncated(path: Path) -> None:
    bag = MotionBag(path)
    teleoperate(bag, 1.0)
    file = bag.close() / f'{path.name}.mcap'
    file.write_bytes(file.read_bytes()[:-5000])


def truncated_database(path: Path) -> None:
    bag = MotionBag(path, StoragePlugin.SQLITE3)
    teleoperate(bag, 1.0)
    file = bag.close() / f'{path.name}.db3'
    file.write_bytes(file.read_bytes()[:-60000])


def empty(path: Path) -> None:
    with Writer(path, version=8) as writer:
        writer.add_connection('/head/image_raw', 'sensor_msgs/msg/Image', typestore=STORE)


def text(path: Path) -> None:
    path.mkdir()
    (path / 'metadata.yaml').write_text('notes: about something else\n')


def other_file(path: Path) -> None:
    path.write_bytes(b'PK\x03\x04' + bytes(100))


def no_messages_left(path: Path) -> None:
    path.mkdir()
    (path / 'bag_0.mcap').write_bytes(b'\x89MCAP0\r\n')


@pytest.mark.parametrize(('make_bag', 'says'), [
    (truncated, 'lingbot-va record --recover'),
    (truncated_database, 'database disk image is malformed'),
    (empty, 'holds no message'),
    (text, 'metadata.yaml cannot be read'),
    (other_file, 'cannot be read: Unrecognized storage format'),
    (no_messages_left, 'holds no whole message'),
    (lambda path: None, 'does not exist'),
    (Path.mkdir, 'cannot be read'),
])  # fmt: skip
def test_what_is_no_whole_bag_is_refused(tmp_path, capsys, make_bag, says):
    make_bag(tmp_path / 'bag')
    refused(tmp_path / 'bag', capsys, says)


def test_messages_of_another_version_of_ours_are_refused(tmp_path, capsys, monkeypatch):
    types = get_typestore(Stores.ROS2_JAZZY)
    old = 'std_msgs/Header header\nuint32 episode\nint8 mode\nstring instruction'
    types.register(get_types_from_msg(old, 'lingbot_va_msgs/msg/Episode'))
    types.register(get_types_from_msg('uint32 episode', 'lingbot_va_msgs/msg/ExecutedActions'))
    monkeypatch.setattr(recorded_motion, 'STORE', types)
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 1.0)
    bag.add('/episode', T0, make('lingbot_va_msgs/msg/Episode', header=header(T0), episode=1, mode=0, instruction=''))
    bag.add('/executed_actions', T0 + MS, make('lingbot_va_msgs/msg/ExecutedActions', episode=1))
    says = '/episode has lingbot_va_msgs/msg/Episode of another version of lingbot_va, which lacks task, mode, instruct'
    refused(bag.close(), capsys, says)
    with Bag(bag.path) as opened:
        report = audit(opened)
    assert not report['usable'] and report['topics']['/episode']['count'] == 1
    assert any(says in reason for reason in report['reasons'])


def test_bags_of_different_robots_make_no_data_set(tmp_path, capsys):
    bags = [MotionBag(tmp_path / name) for name in 'ab']
    bags[1]._notes['profile'] = bags[1]._notes['profile'].replace('name: mini', 'name: maxi')
    for bag in bags:
        teleoperate(bag, 0.5)
    arguments = [str(bag.close()) for bag in bags]
    assert cli.main(['convert', *arguments, '--out', str(tmp_path / 'data')]) == 2
    assert 'is of the robot maxi' in capsys.readouterr().err


@pytest.mark.parametrize(('arguments', 'says'), [
    ([], 'give either --out DATASET or --check'),
    (['--check', '--out', 'data'], 'give either --out DATASET or --check'),
    (['--out', '.'], '. exists; choose another folder'),
    (['--out', 'data', '--workers', '0'], '--workers is 0'),
])  # fmt: skip
def test_bad_usage_is_refused(capsys, arguments, says):
    assert cli.main(['convert', 'bag', *arguments]) == 2
    assert says in capsys.readouterr().err
