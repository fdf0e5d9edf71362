"""What the recorder says in the bag about the bag: events of episodes, by service or key, and which model drove."""

import time
from collections.abc import Callable

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from lingbot_va_ros.bag_writer import BagWriter
from lingbot_va_ros.episode_marker import EpisodeMarker
from lingbot_va_ros.model_notes import ModelNotes
from lingbot_va_ros.qos import LATCHED
from lingbot_va_ros.recording_events import (
    DISCARD,
    FAILURE,
    KEEP,
    NOTES_TOPIC,
    START,
    STOP,
    SUCCESS,
    TOPIC,
    RecordedEpisode,
    RecordingEventError,
)

KEYS = {'s': START, 'e': STOP, 'k': KEEP, 'd': DISCARD, 'y': SUCCESS, 'n': FAILURE}
HELP = 'keys: s start, e end, k keep, d discard, y success, n failure of an episode, q quit'


class RecordingMarks:
    """Writes notes and events straight into the bag, and publishes them for everybody else."""

    def __init__(self, node: Node, bag: BagWriter, say: Callable[[str], None]) -> None:
        names = {topic: node.resolve_topic_name(topic) for topic in (TOPIC, NOTES_TOPIC)}
        self._topics = {topic: bag.add_topic(name, 'std_msgs/msg/String', LATCHED) for topic, name in names.items()}
        self._node, self._bag, self._say = node, bag, say
        self._marker = EpisodeMarker(node, self._write)
        self._model = ModelNotes(node)
        self._given = dict(bag.metadata)  # comes before what the graph says
        self._marker.note(bag.metadata)

    @property
    def episodes(self) -> tuple[RecordedEpisode, ...]:
        """Return the episodes that were marked so far."""
        return tuple(self._marker.episodes)

    def look_at_model(self) -> None:
        """Note which model drives the graph, once that is known."""
        if known := self._model.poll():
            self._bag.metadata |= {**known, **self._given}
            self._marker.note(self._bag.metadata)
            if known.get('use_sim_time') == 'True':
                self._node.set_parameters([Parameter('use_sim_time', value=True)])

    def press(self, key: str) -> None:
        """Do what a key means."""
        try:
            self._marker.mark(KEYS[key])
        except RecordingEventError as error:
            self._say(str(error))

    def end(self) -> None:
        """End an episode that is open."""
        if self._marker.episodes.running:
            self._marker.mark(STOP)

    def _write(self, topic: str, message: String) -> None:
        self._bag.put(self._topics[topic], time.time_ns(), serialize_message(message))
        if topic == TOPIC:
            self._say(f'event: {message.data}')
