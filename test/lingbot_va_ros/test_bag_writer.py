"""A bag is compressed as long as that costs little."""

from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image
from support import wait_until

from lingbot_va_ros import bag_writer
from lingbot_va_ros.bag_writer import BagWriter
from lingbot_va_ros.qos import SENSOR

SIZE, MESSAGES = 2**20, 4  # every message is larger than the library's chunks


@pytest.mark.parametrize(('rate', 'compressed'), [(2**40, True), (0, False)])
def test_what_comes_faster_than_it_should_be_compressed_is_written_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, compressed: bool
) -> None:
    monkeypatch.setattr(bag_writer, 'COMPRESSED_RATE', rate)
    monkeypatch.setattr(bag_writer, 'FLUSH_S', 0.02)
    bag = BagWriter(tmp_path / 'bag', {})
    topic = bag.add_topic('/cam', 'sensor_msgs/msg/Image', SENSOR)
    (file,) = (tmp_path / 'bag.partial').glob('*/*.mcap')
    data = serialize_message(Image(data=bytes(SIZE)))
    for i in range(MESSAGES):
        size = file.stat().st_size
        bag.put(topic, i, data)
        wait_until(lambda size=size: file.stat().st_size > size, 30)
    bag.close()
    with AnyReader([tmp_path / 'bag']) as reader:
        assert [bytes(raw) for _, _, raw in reader.messages()] == [data] * MESSAGES
    written = (tmp_path / 'bag/bag.mcap').stat().st_size
    assert written < SIZE if compressed else written > SIZE
