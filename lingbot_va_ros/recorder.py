"""Records the topics of a graph into a rosbag2 bag, byte for byte as they were received; episodes are marked in it."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from lingbot_va_ros.bag_writer import QUEUE_BYTES, BagError, BagWriter
from lingbot_va_ros.episode_marker import NODE
from lingbot_va_ros.qos import SENSOR
from lingbot_va_ros.recorded_topics import RecordedTopic
from lingbot_va_ros.recording_events import RecordedEpisode
from lingbot_va_ros.recording_marks import HELP, KEYS, RecordingMarks
from lingbot_va_ros.terminal_keys import TerminalKeys, terminal_keys

READY = 'ready: every topic has a publisher'
MISSING = 'no publisher yet: '
RECEIVING = 'receiving: joints and images of every camera have come'
POLL_S = 0.01  # one wait for many messages costs far less than a wait for each; log times are DDS reception times
REPORT_S = 1.0
QUIT = 'q'


@dataclass(frozen=True)
class Recording:
    """What came of a recording. `messages` and `dropped` map resolved topic names to counts."""

    path: Path
    messages: dict[str, int]
    dropped: dict[str, int]
    episodes: tuple[RecordedEpisode, ...]


class Recorder:
    """Subscribes to topics without decoding them and hands the bytes to a BagWriter.

    Attributes:
        received: messages received so far.
        messages: the same by resolved topic name.
    """

    def __init__(self, node: Node, topics: list[RecordedTopic], bag: BagWriter) -> None:
        self.received = 0
        self._bag = bag
        self.messages = {node.resolve_topic_name(topic.name): 0 for topic in topics}
        self._subscriptions = [(self._subscribe(node, topic), topic.awaited) for topic in topics]
        self._sensors = [
            node.resolve_topic_name(topic.name)
            for topic in topics
            if topic.qos is SENSOR and topic.awaited and topic.kind is not CameraInfo
        ]

    def missing(self) -> list[str]:
        """Return the topics of the graph that no publisher serves at present."""
        return [each.topic_name for each, awaited in self._subscriptions if awaited and each.get_publisher_count() == 0]

    def receiving(self) -> bool:
        """Whether every sensor has been heard; one that is discovered may take seconds until its messages come here."""
        return all(self.messages[name] for name in self._sensors)

    def _subscribe(self, node: Node, topic: RecordedTopic) -> Subscription:
        name = node.resolve_topic_name(topic.name)
        receive = partial(self._receive, name, self._bag.add_topic(name, topic.type_name, topic.qos))
        return node.create_subscription(topic.kind, name, receive, topic.subscription, raw=True)

    def _receive(self, name: str, topic: int, data: bytes, info: dict) -> None:
        self.messages[name] += 1
        self.received += 1
        self._bag.put(topic, info['received_timestamp'], data)


def record(
    topics: list[RecordedTopic],
    out: Path,
    metadata: dict[str, str],
    *,
    namespace: str = '',
    duration_s: float | None = None,
    queue_bytes: int = QUEUE_BYTES,
    use_sim_time: bool = False,
    say: Callable[[str], None] = print,
) -> Recording:
    """Record until SIGINT, SIGTERM, the key q or for `duration_s`, then complete the bag at `out`.

    Says READY once every topic has a publisher, RECEIVING once every sensor has been heard, and at most once a second
    which topics have no publisher before that or lost messages. Episodes are marked by services and, in a terminal, by
    KEYS (see `recording_events`). Must be called in the main thread of a process of its own, because it takes over the
    two signals.

    Raises:
        BagError: `out` cannot be written (at the beginning or later), or not one message came.
    """
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    bag = BagWriter(out, metadata, queue_bytes)
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    recorder = None
    try:
        node = rclpy.create_node(
            NODE,
            namespace=namespace,
            context=context,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter('use_sim_time', value=use_sim_time)],
        )
        recorder, marks = Recorder(node, topics, bag), RecordingMarks(node, bag, say)
        say(f'recording {len(topics)} topics to {out}')
        with terminal_keys() as keys:
            if keys.available:
                say(HELP)
            _receive_until(stop, duration_s, node, recorder, marks, keys, bag, say)
        marks.end()
        node.destroy_node()
    finally:
        context.try_shutdown()
        if recorder is None or not recorder.received:
            bag.discard()
        else:
            bag.close()
    if not recorder.received:
        raise BagError('not one message was received; nothing was written')
    return Recording(out, recorder.messages, dict(bag.dropped), marks.episodes)


def _receive_until(
    stop: Event,
    duration_s: float | None,
    node: Node,
    recorder: Recorder,
    marks: RecordingMarks,
    keys: TerminalKeys,
    bag: BagWriter,
    say: Callable[[str], None],
) -> None:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = None if duration_s is None else time.monotonic() + duration_s
    report, ready, receiving, missing, dropped = time.monotonic() + REPORT_S, False, False, [], 0
    while not stop.is_set() and (end is None or time.monotonic() < end):
        _drain(executor, recorder)
        bag.check()
        for key in keys.read():
            if key in KEYS:
                marks.press(key)
            elif key == QUIT:
                stop.set()
        if not ready and not recorder.missing():
            ready = True
            say(READY)
        if not receiving and recorder.receiving():
            receiving = True
            say(RECEIVING)
        if time.monotonic() >= report:
            report = time.monotonic() + REPORT_S
            marks.look_at_model()
            if not ready and recorder.missing() != missing:
                missing = recorder.missing()
                say(MISSING + ', '.join(missing))
            if bag.dropped.total() > dropped:
                dropped = bag.dropped.total()
                say(f'the disk does not keep up, dropped so far: {counts(bag.dropped)}')
        stop.wait(POLL_S)
    _drain(executor, recorder)


def _drain(executor: SingleThreadedExecutor, recorder: Recorder) -> None:
    """Receive what has arrived."""
    before = -1
    while recorder.received != before:
        before = recorder.received
        executor.spin_once(timeout_sec=0)


def counts(messages: dict[str, int]) -> str:
    """Format counts of messages for people."""
    return ', '.join(f'{topic} {count}' for topic, count in sorted(messages.items()) if count) or 'none'


def main() -> None:
    """Run `lingbot-va record` with this process's arguments."""
    from lingbot_va_ros import cli

    sys.exit(cli.main(['record', *sys.argv[1:]]))


if __name__ == '__main__':
    main()
