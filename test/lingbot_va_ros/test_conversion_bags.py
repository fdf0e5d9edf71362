"""Many bags, workers that die, and notes that are messages."""

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from recorded_motion import NOTES, PROFILE_TEXT, T0, MotionBag, act, make, teleoperate

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_ros import cli
from lingbot_va_ros.bag import Bag, BagReadError
from lingbot_va_ros.conversion import Conversion


def kill_the_next_worker() -> threading.Thread:
    def kill() -> None:
        until = time.monotonic() + 60
        while not multiprocessing.active_children() and time.monotonic() < until:
            time.sleep(0.01)
        multiprocessing.active_children()[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_worker_that_is_killed_ends_the_conversion_and_what_was_written_stays(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    for number in (1, 2, 3):
        act(bag, number, T0 + (number - 1) * NANOSECONDS, 1)
    bag.close()
    with Conversion([bag.path]) as conversion:
        next(iter(conversion.write(conversion.writer(tmp_path / 'data', 'v3.0'))))
    with Conversion([bag.path], workers=2) as conversion:
        writer = conversion.writer(tmp_path / 'data', 'v3.0')
        killer = kill_the_next_worker()
        with pytest.raises(RuntimeError, match='a worker process died'):
            list(conversion.write(writer))
        killer.join()
        assert 0 in writer.done()


def test_bags_are_not_kept_open(tmp_path):
    paths = []
    for number in range(5):
        bag = MotionBag(tmp_path / str(number))
        teleoperate(bag, 0.5)
        paths.append(bag.close())
    before = len(os.listdir('/proc/self/fd'))
    with Conversion(paths) as conversion:
        assert len(conversion.parts) == 5
        assert len(os.listdir('/proc/self/fd')) == before


def test_what_a_killed_recorder_left_is_copied_where_there_is_room(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 2.0)
    whole = (bag.close() / 'bag.mcap').read_bytes()
    left, room = tmp_path / 'bag.partial', tmp_path / 'room'
    (left / 'bag').mkdir(parents=True)
    room.mkdir()
    (left / 'bag' / 'bag.mcap').write_bytes(whole[:-5000])
    (tmp_path / 'mini.yaml').write_text(PROFILE_TEXT)
    with Conversion([left], str(tmp_path / 'mini.yaml'), 'wipe', folder=room) as conversion:
        assert len(list(room.rglob('*.mcap'))) == 1
        [_] = conversion.write(conversion.writer(tmp_path / 'data', 'v3.0'))
    assert list(room.iterdir()) == []


def noted(bag: MotionBag, topic: str, **notes: str) -> Path:
    """Close a bag whose notes are messages, as where a recorder cannot write metadata."""
    bag.add(topic, T0, make('std_msgs/msg/String', data=json.dumps({'preset': 'old'})))
    bag.add(topic, T0 + NANOSECONDS, make('std_msgs/msg/String', data=json.dumps(notes)))
    bag._notes.clear()
    return bag.close()


def test_notes_may_be_messages(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 1.0)
    with Conversion([noted(bag, '/recording_notes', **NOTES)]) as conversion:
        [part] = conversion.parts
        assert part.instruction == 'wipe the table'


def test_the_namespace_is_that_of_the_notes_or_as_given(tmp_path, capsys):
    bag, bare = MotionBag(tmp_path / 'bag'), MotionBag(tmp_path / 'bare')
    teleoperate(bag, 1.0)
    bag._messages = [(log_ns, f'/left_cell{topic}', *rest) for log_ns, topic, *rest in bag._messages]
    bare._messages = list(bag._messages)
    with Bag(noted(bag, '/left_cell/recording_notes', **NOTES)) as opened:
        assert opened.namespace == 'left_cell' and opened.has('joint_states')
    bare._notes.clear()
    (tmp_path / 'mini.yaml').write_text(PROFILE_TEXT)
    arguments = ['convert', '--check', str(bare.close()), '--robot', str(tmp_path / 'mini.yaml')]
    assert cli.main(arguments) == 1
    assert cli.main([*arguments, '--namespace', '/left_cell']) == 0, capsys.readouterr().out


def test_notes_that_cannot_be_read_are_refused(tmp_path):
    bag = MotionBag(tmp_path / 'bag')
    teleoperate(bag, 0.2)
    bag.add('/recording_notes', T0, make('std_msgs/msg/String', data='robot: mini'))
    bag._notes.clear()
    with pytest.raises(BagReadError, match='the notes on /recording_notes at 1700000000'), Bag(bag.close()):
        pass
