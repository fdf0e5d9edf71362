"""The perception node between cameras, a world model and an action node that the test plays."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from support import Graph

from lingbot_va_core.robot import RobotProfile, load_profile
from lingbot_va_msgs.msg import Episode, ExecutedActions, LatentFrame
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import to_time
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.recorded_topics import image_type

PROFILE = load_profile('aloha')
VIDEO_NS = PROFILE.clock.video_ns
T0 = 1_700_000_000_000_000_000
PERCEPTION = [spec for spec in nodes(simulation=True) if spec.name == 'perception']


class Stage:
    """Cameras, announcements of episodes and reports of the motion; what the node sends is collected."""

    def __init__(self, graph: Graph, profile: RobotProfile = PROFILE) -> None:
        self.graph = graph
        self.latents = graph.collect('latents', LatentFrame, qos.STREAM)
        self.diagnostics = graph.collect('/diagnostics', DiagnosticArray, qos.DIAGNOSTICS)
        self._sent = 0
        node = graph.node
        self._cameras = [node.create_publisher(image_type(each), each.topic, qos.COMMAND) for each in profile.cameras]
        calibrated = [each.info_topic for each in profile.cameras if each.rectify]
        self.infos = [node.create_publisher(CameraInfo, topic, qos.COMMAND) for topic in calibrated]
        self._executed = node.create_publisher(ExecutedActions, 'executed_actions', qos.STREAM)
        self._episodes = node.create_publisher(Episode, 'episode', qos.LATCHED)

    def ready(self) -> None:
        """Wait until the node hears everything.

        That this side knows a subscription does not mean that the node knows the publisher, and what comes best effort
        from one that it does not know yet is lost. Only an acknowledgement says so. The node learns of publishers in
        the order in which they were made, so that the last one's is enough.
        """
        publishers = [*self._cameras, *self.infos, self._executed, self._episodes]
        self.graph.wait_for(lambda: all(each.get_subscription_count() for each in publishers), what='subscriptions')
        self.announce(Episode())

    def renew(self) -> None:
        """Let the node begin anew, with nothing to do: what it has counted and kept ends with its activation."""
        self.announce(Episode())
        assert self.graph.change_state('perception', 'deactivate', 'activate')
        self.latents.clear()
        self.diagnostics.clear()
        self._sent = 0

    def announce(self, episode: Episode) -> None:
        """Publish an episode and wait until it has come."""
        self._episodes.publish(episode)
        assert self._episodes.wait_for_all_acked()

    def begin(self, number: int = 1, at_ns: int = T0) -> None:
        """Announce an episode that begins at an instant."""
        episode = Episode(episode=number, task=1)
        episode.header.stamp = to_time(at_ns)
        self.announce(episode)

    def executed(self, index: int, frames: Sequence[float], episode: int = 1) -> None:
        """Report a latent frame whose motion was at the instants of these video frames."""
        report = ExecutedActions(episode=episode, latent_index=index)
        report.video_stamps = [to_time(T0 + round(frame * VIDEO_NS)) for frame in frames]
        self.report(report)

    def report(self, report: ExecutedActions) -> None:
        """Publish a report; it is not lost, so that nothing waits for its acknowledgement, which takes seconds."""
        self._executed.publish(report)

    def show(self, camera: int, message: Image | CompressedImage) -> None:
        """Publish an image."""
        self._sent += 1
        self._cameras[camera].publish(message)

    def send(self, frame: int, cameras: tuple[int, ...] = (0, 1, 2), **changes: Any) -> None:
        """Publish video frame `frame` of some cameras."""
        for camera in cameras:
            self.show(camera, image(frame, camera, **changes))

    def play(self, frames: range, cameras: tuple[int, ...] = (0, 1, 2)) -> None:
        """Publish up to five video frames, which the node's queues hold, and wait until it has taken them."""
        assert len(frames) <= 5
        for frame in frames:
            self.send(frame, cameras)
        self.wait_until_taken()

    def wait_until_taken(self) -> None:
        """Wait until the node has taken all images."""
        self.graph.wait_for(lambda: int(self.health().images_received) == self._sent, what=f'{self._sent} images')

    def health(self) -> SimpleNamespace:
        """Newest diagnostic."""
        self.graph.wait_for(lambda: self.diagnostics, what='a diagnostic')
        status = self.diagnostics[-1].status[0]
        return SimpleNamespace(message=status.message, **{pair.key: pair.value for pair in status.values})

    def wait_for_problem(self, *texts: str) -> None:
        """Wait until the diagnostic's message contains the texts."""
        self.graph.wait_for(lambda: all(text in self.health().message for text in texts), what=f'{texts}')


def pixels(frame: int, camera: int) -> np.ndarray:
    """A picture that differs between frames and cameras."""
    size = PROFILE.cameras[camera]
    return np.random.default_rng(10 * frame + camera).integers(0, 255, (size.height, size.width, 3), dtype=np.uint8)


def image(frame: int, camera: int, **changes: Any) -> Image:
    fields = {
        'height': PROFILE.cameras[camera].height,
        'width': PROFILE.cameras[camera].width,
        'encoding': 'rgb8',
        'step': 3 * PROFILE.cameras[camera].width,
        **changes,
    }
    message = Image(**fields)
    message.data.frombytes(pixels(frame, camera).tobytes()[: message.height * message.step])
    message.header.stamp = to_time(T0 + frame * VIDEO_NS)
    return message
