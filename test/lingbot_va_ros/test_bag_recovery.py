"""Bags of recorders that could not complete them."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from std_msgs.msg import String
from support import wait_until

from lingbot_va_ros.bag_recovery import is_incomplete, recover_bag
from lingbot_va_ros.bag_writer import BagError
from lingbot_va_ros.ros_environment import child_environment

ZSTD = b'\x28\xb5\x2f\xfd'  # a chunk's content begins with it
WRITER = """
import os, sys, time
from pathlib import Path
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from lingbot_va_ros.bag_writer import BagWriter
from lingbot_va_ros.qos import LATCHED

bag = BagWriter(Path(sys.argv[1]), {})
notes = bag.add_topic('/recording_notes', 'std_msgs/msg/String', LATCHED)
topic = bag.add_topic('/numbers', 'std_msgs/msg/String', LATCHED)
bag.put(notes, 0, serialize_message(String(data='{"robot": "aloha"}')))
size, number = int(sys.argv[2]), 0
while True:
    bag.check()
    bag.put(topic, 1 + number, serialize_message(String(data=f'{number} {os.urandom(size // 2).hex()}')))
    number += 1
    time.sleep(0.001)
"""


def writer(bag: Path, size: int, **options: object) -> subprocess.Popen:
    """Write numbered messages of `size` bytes until the process is ended."""
    command = [sys.executable, '-c', WRITER, str(bag), str(size)]
    return subprocess.Popen(command, env=child_environment(sys.path), stderr=subprocess.PIPE, text=True, **options)


def numbers(bag: Path) -> list[int]:
    """The numbers in a complete bag."""
    with AnyReader([bag]) as reader:
        connections = [connection for connection in reader.connections if connection.topic == '/numbers']
        return [int(deserialize_message(data, String).data.split()[0]) for _, _, data in reader.messages(connections)]


@pytest.fixture(scope='module')
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a writer leaves that was killed with SIGKILL a while after its first bytes were in the file."""
    bag = tmp_path_factory.mktemp('killed') / 'bag'
    partial = bag.with_name('bag.partial')
    with writer(bag, 100) as process:
        try:
            wait_until(lambda: any(file.stat().st_size > 5000 for file in partial.glob('*/*.mcap')), 30)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    return partial


def test_what_a_killed_recorder_wrote_can_be_read(killed: Path, tmp_path: Path) -> None:
    assert is_incomplete(killed)
    recovered = recover_bag(killed, tmp_path / 'bag')
    found = numbers(tmp_path / 'bag')
    assert found == list(range(len(found))) and len(found) > 100
    assert recovered.messages == len(found) + 1
    assert not is_incomplete(tmp_path / 'bag')
    information = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert information['custom_data'] == {'robot': 'aloha'}
    (qos,) = yaml.safe_load(information['topics_with_message_count'][1]['topic_metadata']['offered_qos_profiles'])
    assert qos['durability'] == 1  # transient local
    assert is_incomplete(killed)  # as it was


def test_a_file_that_ends_anywhere_gives_what_is_whole(killed: Path, tmp_path: Path) -> None:
    (file,) = killed.glob('*/*.mcap')
    data = file.read_bytes()
    everything = recover_bag(killed, tmp_path / 'all').messages
    (tmp_path / 'cut').mkdir()
    counts = []
    for i, size in enumerate((len(data) // 2, len(data) - 1, len(data))):
        (tmp_path / 'cut' / 'bag.mcap').write_bytes(data[:size] + bytes(100 * i))  # a disk may leave zeros behind
        try:
            counts.append(recover_bag(tmp_path / 'cut', tmp_path / f'bag{i}').messages)
        except BagError as error:
            assert 'no whole message' in str(error)
            counts.append(0)
    assert counts[0] <= counts[1] <= counts[2] == everything


def test_a_damaged_chunk_is_left_out(killed: Path, tmp_path: Path) -> None:
    (file,) = killed.glob('*/*.mcap')
    data = bytearray(file.read_bytes())
    everything = recover_bag(killed, tmp_path / 'all').messages
    last = data.rindex(ZSTD)
    data[last : last + len(ZSTD)] = bytes(len(ZSTD))
    (tmp_path / 'damaged').mkdir()
    (tmp_path / 'damaged' / 'bag.mcap').write_bytes(data)
    if data.count(ZSTD):
        recovered = recover_bag(tmp_path / 'damaged', tmp_path / 'bag')
        assert 0 < recovered.messages < everything and recovered.lost_bytes > 100
    else:
        with pytest.raises(BagError, match='no whole message'):
            recover_bag(tmp_path / 'damaged', tmp_path / 'bag')
        assert not (tmp_path / 'bag').exists()


def test_a_disk_that_is_full_leaves_what_was_written(tmp_path: Path) -> None:
    limit = 2 * 2**20
    with writer(
        tmp_path / 'bag', 20000, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    ) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert 'BagError: writing failed' in said and '--recover' in said
    recover_bag(tmp_path / 'bag.partial', tmp_path / 'bag')
    found = numbers(tmp_path / 'bag')
    assert found == list(range(len(found))) and len(found) > 50


def test_a_complete_bag_can_be_recovered_as_well(killed: Path, tmp_path: Path) -> None:
    first = recover_bag(killed, tmp_path / 'first')
    (tmp_path / 'first' / 'metadata.yaml').unlink()
    again = recover_bag(tmp_path / 'first', tmp_path / 'second')
    assert (again.messages, again.lost_bytes) == (first.messages, 0)
    assert numbers(tmp_path / 'second') == numbers_of(killed, tmp_path)


def numbers_of(partial: Path, tmp_path: Path) -> list[int]:
    """The numbers in an incomplete bag."""
    return numbers(recover_bag(partial, tmp_path / 'third').path)


def test_what_cannot_be_recovered_is_refused(killed: Path, tmp_path: Path) -> None:
    with pytest.raises(BagError, match='no MCAP file'):
        recover_bag(tmp_path, tmp_path / 'bag')
    (tmp_path / 'bag').mkdir()
    with pytest.raises(BagError, match='exists already'):
        recover_bag(killed, tmp_path / 'bag')
    (tmp_path / 'text').mkdir()
    (tmp_path / 'text' / 'notes.mcap').write_text(json.dumps({'no': 'bag'} | {str(i): i for i in range(100)}))
    with pytest.raises(BagError, match='no whole message'):
        recover_bag(tmp_path / 'text', tmp_path / 'new')
    assert not (tmp_path / 'new').exists()
