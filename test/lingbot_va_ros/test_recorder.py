"""The recorder, in a process of its own, against real publishers."""

import array
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rclpy.duration import Duration
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, ExecutedActions, LatentFrame
from lingbot_va_ros.bag_writer import BagError, BagWriter
from lingbot_va_ros.recorded_topics import recorded_topics
from lingbot_va_ros.recorder import READY
from lingbot_va_ros.ros_environment import child_environment

pytestmark = pytest.mark.graph
DEADLINE_S = 30.0
ROUNDS = 20


@pytest.fixture
def start():
    """Start recorders that do not outlive the test."""
    processes = []

    def start_recorder(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, '-m', 'lingbot_va_ros.cli', 'record', *arguments]
        environment = child_environment(sys.path)
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return processes[-1]

    yield start_recorder
    for process in processes:
        process.kill()
        process.communicate()


def publishers(graph):
    """Publish every topic of the robot."""
    topics = recorded_topics(load_profile('aloha'))
    return [(topic, graph.node.create_publisher(topic.kind, topic.name, topic.qos)) for topic in topics]


def message(kind: type, number: int, pixels: int = 240 * 160 * 3):
    """Return a message of this type whose variable parts are filled and differ with `number`."""
    noise = random.Random(number)
    made = kind()
    if hasattr(made, 'header'):
        made.header.stamp.nanosec = number
    if kind is Image:
        made.data = array.array('B', noise.randbytes(pixels))
    if kind is LatentFrame:
        made.cameras, made.layout, made.data = ['cam_high'], 'width', array.array('B', noise.randbytes(2304))
    if kind in (ActionChunk, ExecutedActions):
        made.actions = array.array('f', [noise.random() for _ in range(30 * 16)])
    if kind is DualArmCommand:
        made.values = [noise.random() for _ in range(30)]
    return made


def information(bag: Path) -> dict:
    """What metadata.yaml says about a bag."""
    return yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']


def wait_for(process: subprocess.Popen, line: str) -> None:
    """Read what the recorder says up to this line."""
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f'the recorder ended without saying "{line}": {process.stderr.read()}')


def test_bag_holds_every_message_as_it_was_sent(graph, start, tmp_path):
    sent = {f'/{topic.name}'.replace('//', '/'): [] for topic in recorded_topics(load_profile('aloha'))}
    recorder = start('--out', str(tmp_path / 'bag'), '--metadata', 'task=transfer_cube')
    outputs = publishers(graph)
    wait_for(recorder, READY)
    before = time.time_ns()
    for number in range(ROUNDS):
        for topic, publisher in outputs:
            data = serialize_message(message(topic.kind, number))
            publisher.publish(data)
            sent[publisher.topic_name].append(data)
        time.sleep(0.02)  # best effort: not more than the receiver's queue at once
    assert all(publisher.wait_for_all_acked(Duration(seconds=DEADLINE_S)) for _, publisher in outputs)
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(DEADLINE_S) == 0

    with AnyReader([tmp_path / 'bag']) as bag:
        received = {topic: [] for topic in sent}
        own = ['/recording_notes', '/recording_events']
        for connection, stamp_ns, data in bag.messages([c for c in bag.connections if c.topic not in own]):
            assert before <= stamp_ns <= time.time_ns()
            received[connection.topic].append(data)
        assert {topic: len(messages) for topic, messages in received.items()} == dict.fromkeys(sent, ROUNDS)
        for topic, messages in received.items():
            for got, expected in zip(messages, sent[topic], strict=True):
                # DDS pads what it carries to multiples of four bytes.
                assert got[: len(expected)] == expected and len(got) - len(expected) < 4, topic
        kinds = {c.topic: c.msgtype for c in bag.connections}
        command = bag.deserialize(received['/command'][3], kinds['/command'])
        assert command.HOLD == -1
        assert command.values.tolist() == pytest.approx(list(message(DualArmCommand, 3).values))
    assert not (tmp_path / 'bag.partial').exists()


def test_bag_describes_itself(graph, start, tmp_path):
    recorder = start(
        '--out', str(tmp_path / 'bag'), '--metadata', 'task=transfer_cube', '--json', str(tmp_path / 'r.json')
    )
    outputs = publishers(graph)
    wait_for(recorder, READY)
    for topic, publisher in outputs:
        publisher.publish(message(topic.kind, 1))
    assert all(publisher.wait_for_all_acked(Duration(seconds=DEADLINE_S)) for _, publisher in outputs)
    recorder.send_signal(signal.SIGTERM)
    assert recorder.wait(DEADLINE_S) == 0

    metadata = information(tmp_path / 'bag')
    notes = metadata['custom_data']
    assert notes['robot'] == 'aloha' and notes['task'] == 'transfer_cube'
    assert notes['profile'] == profile_path('aloha').read_text()
    assert json.loads(notes['dropped']) == {}
    qos = {
        topic['topic_metadata']['name']: yaml.safe_load(topic['topic_metadata']['offered_qos_profiles'])[0]
        for topic in metadata['topics_with_message_count']
    }
    assert qos['/cam_high/image_raw']['reliability'] == 2 and qos['/cam_high/image_raw']['depth'] == 5  # best effort
    assert qos['/command']['reliability'] == 1 and qos['/command']['durability'] == 2  # reliable, volatile
    assert qos['/episode']['durability'] == 1 and qos['/episode']['depth'] == 1  # transient local
    report = json.loads((tmp_path / 'r.json').read_text())
    assert report['dropped'] == {} and report['messages']['/imagined'] == 1


def test_latched_message_from_before_the_recording_is_in_the_bag(graph, start, tmp_path):
    outputs = publishers(graph)
    episode = next(publisher for topic, publisher in outputs if topic.name == 'episode')
    kind = next(topic.kind for topic, _ in outputs if topic.name == 'episode')
    episode.publish(kind(episode=7))
    recorder = start('--out', str(tmp_path / 'bag'))
    wait_for(recorder, READY)
    assert episode.wait_for_all_acked(Duration(seconds=DEADLINE_S))
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(DEADLINE_S) == 0
    with AnyReader([tmp_path / 'bag']) as bag:
        connections = [each for each in bag.connections if each.topic == '/episode']
        [(connection, _, data)] = bag.messages(connections)
        assert bag.deserialize(data, connection.msgtype).episode == 7


def test_messages_that_do_not_fit_the_queue_are_counted_and_shown(graph, start, tmp_path):
    recorder = start('--out', str(tmp_path / 'bag'), '--queue-mib', '0.01')  # less than one image
    outputs = publishers(graph)
    wait_for(recorder, READY)
    for number in range(5):
        for topic, publisher in outputs:
            publisher.publish(message(topic.kind, number))
        time.sleep(0.1)
    wait_for_drop = next(line for line in recorder.stdout if 'dropped so far' in line)
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(DEADLINE_S) == 1
    assert '/cam_high/image_raw' in wait_for_drop
    dropped = json.loads(information(tmp_path / 'bag')['custom_data']['dropped'])
    assert dropped['/cam_high/image_raw'] == dropped['/cam_left_wrist/image_raw'] == 5
    with AnyReader([tmp_path / 'bag']) as bag:
        stored = {topic: found.msgcount for topic, found in bag.topics.items()}
    assert stored['/cam_high/image_raw'] == 0
    assert stored['/command'] + dropped.get('/command', 0) == 5


def test_refuses_to_overwrite(start, tmp_path):
    (tmp_path / 'bag').mkdir()
    recorder = start('--out', str(tmp_path / 'bag'))
    _, errors = recorder.communicate(timeout=DEADLINE_S)
    assert recorder.returncode == 2
    assert 'exists already' in errors and 'Traceback' not in errors


def test_nothing_received_is_an_error_and_leaves_nothing(start, tmp_path):
    recorder = start('--out', str(tmp_path / 'bag'), '--duration', '0.5')
    _, errors = recorder.communicate(timeout=DEADLINE_S)
    assert recorder.returncode != 0
    assert 'not one message' in errors and 'Traceback' not in errors
    assert list(tmp_path.iterdir()) == []


def test_failed_write_is_reported_and_leaves_the_bag_marked_partial(tmp_path, monkeypatch):
    bag = BagWriter(tmp_path / 'bag', {})
    topic = recorded_topics(load_profile('aloha'))[0]
    number = bag.add_topic('/cam', topic.type_name, topic.qos)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(bag._writer.storage, 'write', full)
    bag.put(number, 1, b'data')
    with pytest.raises(BagError, match='No space left'):
        bag.close()
    assert (tmp_path / 'bag.partial').is_dir() and not (tmp_path / 'bag').exists()


def test_bag_name_is_a_path_that_readers_accept(tmp_path):
    bag = BagWriter(Path(tmp_path) / 'a b', {})
    topic = recorded_topics(load_profile('aloha'))[0]
    bag.put(bag.add_topic('/cam', topic.type_name, topic.qos), 5, serialize_message(Image()))
    bag.close()
    with AnyReader([tmp_path / 'a b']) as reader:
        assert reader.start_time == 5
