"""The services that mark episodes in a recording, and the latched topics on which the marks are recorded."""

import json
from collections.abc import Callable, Mapping
from functools import partial

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from lingbot_va_ros.qos import LATCHED
from lingbot_va_ros.recording_events import EVENTS, NOTES_TOPIC, TOPIC, RecordedEpisodes, RecordingEventError

NODE = 'recorder'  # services: recorder/start, recorder/stop, ...


class EpisodeMarker:
    """Serves `~/start`, `~/stop`, `~/keep`, `~/discard`, `~/success` and `~/failure` of a node.

    Args:
        node: its clock stamps the events.
        on_message: also told what is published: topic and message.

    Attributes:
        episodes: what was marked so far.
    """

    def __init__(self, node: Node, on_message: Callable[[str, String], None] = lambda topic, message: None) -> None:
        self.episodes = RecordedEpisodes()
        self._node, self._on_message = node, on_message
        self._publishers = {topic: node.create_publisher(String, topic, LATCHED) for topic in (TOPIC, NOTES_TOPIC)}
        for event in EVENTS:
            node.create_service(Trigger, f'~/{event}', partial(self._serve, event))

    def mark(self, event: str) -> str:
        """Take an event and say what it did.

        Raises:
            RecordingEventError: it does not fit, or simulation time is followed and there is no /clock yet.
        """
        stamp_ns = self._node.get_clock().now().nanoseconds
        if not stamp_ns:
            raise RecordingEventError(f'{event}: there is no time yet; is /clock published?')
        text = self.episodes.apply(event, stamp_ns)
        self._publish(TOPIC, text)
        return f'episode {json.loads(text)["episode"]}: {event}'

    def note(self, notes: Mapping[str, str]) -> None:
        """Publish what is to be known about the recording."""
        self._publish(NOTES_TOPIC, json.dumps(dict(notes)))

    def _publish(self, topic: str, text: str) -> None:
        message = String(data=text)
        self._publishers[topic].publish(message)
        self._on_message(topic, message)

    def _serve(self, event: str, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = self.mark(event), True
        except RecordingEventError as error:
            response.message = str(error)
        return response
