"""Writes the bag of an episode whose numbers are known, for tests of what reads bags."""

import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Bool

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Episode, LatentFrame
from lingbot_va_ros.bag_writer import BagWriter
from lingbot_va_ros.recorded_topics import recorded_topics

PROFILE = load_profile('aloha')
CLOCK = PROFILE.clock
DT, VIDEO, LATENT = CLOCK.action_ns, CLOCK.video_ns, CLOCK.latent_ns
START = 1_000 * NANOSECONDS  # the episode's announcement
ORIGIN = START + VIDEO  # the first video frame, latent 0
INSTRUCTION = 'hand the cube over'
EPISODE = 3
CHUNK_FRAMES = 2
ACTIONS = CHUNK_FRAMES * CLOCK.actions_per_latent
DELAY = 300 * NANOSECONDS  # of the recorder's clock from stamps, where a graph on a simulated clock starts twice
LATER = 20 * NANOSECONDS  # from one of its starts to the next


def time(ns: int) -> Time:
    """Convert from nanoseconds."""
    return Time(sec=ns // NANOSECONDS, nanosec=ns % NANOSECONDS)


@dataclass
class Chunk:
    """A chunk that begins `at_ns`, and the newest real latent frame that it was predicted from."""

    at_ns: int
    first_latent: int
    observed: int
    latency_ms: float = 100.0
    margin_ms: float = 0.0


class RecordedEpisode:
    """A bag in the making; everything is logged at its stamp."""

    def __init__(self, path: Path, mode: int = Episode.SYNC, namespace: str = '', **notes: str) -> None:
        notes = {
            'robot': 'aloha', 'profile': profile_path('aloha').read_text(), 'namespace': namespace,
            'task': 'transfer_cube', 'preset': 'tiny', 'model_seed': '0', **notes,
        }  # fmt: skip
        self.model = load_model(None, 'tiny', PROFILE, 0)
        self._mode = mode
        self.episode = EPISODE  # of what is added
        self._bag = BagWriter(path, notes)
        prefix = f'/{namespace}' if namespace else ''
        self._topics = {
            topic.name: self._bag.add_topic(
                topic.name if topic.name.startswith('/') else f'{prefix}/{topic.name}', topic.type_name, topic.qos
            )
            for topic in recorded_topics(PROFILE)
        }
        self._messages: list[tuple[int, str, bytes]] = []

    def add(self, topic: str, at_ns: int, message: object) -> None:
        """Add any message."""
        self._messages.append((at_ns, topic, serialize_message(message)))

    def announce(self, end_ns: int | None) -> None:
        """Add the episode's beginning and, unless None, its end."""
        self._announce(START, EPISODE)
        if end_ns is not None:
            self._announce(end_ns, 0)

    def restart(self, at_ns: int) -> None:
        """Go on with the task in the next episode, to which what is added from now on belongs."""
        self.episode += 1
        self._announce(at_ns, self.episode)

    def _announce(self, at_ns: int, number: int) -> None:
        message = Episode(episode=number, task=1 if number else 0, mode=self._mode, instruction=INSTRUCTION)
        message.header.stamp = time(at_ns)
        self.add('episode', at_ns, message)

    def command(self, at_ns: int, chunk: int = 0, index: int = DualArmCommand.HOLD, episode: int | None = None) -> None:
        """Add a command."""
        episode = self.episode if episode is None else episode
        message = DualArmCommand(episode=episode, chunk=chunk, action_index=index)
        message.header.stamp = time(at_ns)
        self.add('command', at_ns, message)

    def chunk(self, number: int, chunk: Chunk) -> None:
        """Add an action chunk, published its latency's length before it begins, and what was imagined for it."""
        published = chunk.at_ns - DT
        message = ActionChunk(
            episode=self.episode, chunk=number, first_latent_index=chunk.first_latent, latent_frames=CHUNK_FRAMES,
            actions_per_latent=CLOCK.actions_per_latent, dt=Duration(nanosec=DT), mode=self._mode,
            model=self.model.name,
            observation_indices=list(range(chunk.observed + 1)), latency_ms=chunk.latency_ms,
            margin_ms=chunk.margin_ms,
        )  # fmt: skip
        message.header.stamp = time(chunk.at_ns)
        self.add('action_chunk', published, message)
        generator = np.random.default_rng(number)
        for offset in range(CHUNK_FRAMES):
            latents = generator.normal(size=self.model.config.latent_shape)
            self.latent('imagined', published, chunk.first_latent + offset, latents)

    def latent(self, topic: str, at_ns: int, index: int, latents: np.ndarray, stamps: tuple[int, ...] = ()) -> None:
        """Add a latent frame [C, h, w], and the stamps of the video frames that it covers."""
        channels, height, width = latents.shape
        message = LatentFrame(
            episode=self.episode, index=index, imagined=topic == 'imagined', model=self.model.name, layout='tshape',
            cameras=[camera.name for camera in PROFILE.cameras], channels=channels, height=height, width=width,
            data=array.array('B', latents.astype('<f2').tobytes()), frame_stamps=[time(stamp) for stamp in stamps],
        )  # fmt: skip
        message.header.stamp = time(at_ns)
        self.add(topic, at_ns, message)

    def images(self, frames: int, skip: tuple[int, ...] = ()) -> None:
        """Add so many video frames of all cameras from ORIGIN on, and their latents; `skip` leaves some images out."""
        encoder = StreamingEncoder(self.model.vae, self.model.config.rollout, len(PROFILE.cameras))
        pending = []
        for number in range(frames):
            pictures = [picture(number, column) for column in range(len(PROFILE.cameras))]
            at_ns = ORIGIN + number * VIDEO
            for column, camera in enumerate(PROFILE.cameras):
                if number in skip:
                    continue
                message = Image(height=160, width=240, step=720, encoding='rgb8')
                message.data = array.array('B', pictures[column].tobytes())
                message.header.stamp = time(at_ns + column * 1_000_000)  # cameras are never quite simultaneous
                self.add(camera.image_topic, at_ns + column * 1_000_000, message)
            pending.append(pictures)
            if number % 4 == 0:
                [latents] = encoder.encode(pending)
                self.latent('latents', at_ns, number // 4, latents.numpy())
                pending = []

    def diagnostics(self, at_ns: int, received: int, dropped: int) -> None:
        """Add perception's report."""
        values = [
            KeyValue(key='images_received', value=str(received)),
            KeyValue(key='images_dropped', value=str(dropped)),
        ]
        status = DiagnosticStatus(name='lingbot_va: perception', values=values)
        self.add('/diagnostics', at_ns, DiagnosticArray(status=[status]))

    def success(self, at_ns: int, value: bool) -> None:
        """Add a report of success."""
        self.add('task_success', at_ns, Bool(data=value))

    def close(self) -> None:
        """Write the bag."""
        for at_ns, topic, data in sorted(self._messages, key=lambda item: item[0]):
            self._bag.put(self._topics[topic], at_ns, data)
        self._bag.close()


class StartedTwice(RecordedEpisode):
    """The graph is killed and started again with its simulation: numbers and stamps begin again, a little later."""

    def close(self) -> None:
        """Write the bag, with everything twice."""
        once = list(self._messages)
        self._messages = [(DELAY + at_ns, topic, data) for at_ns, topic, data in once]
        self._messages += [(DELAY + LATER + at_ns, topic, self.again(topic, data)) for at_ns, topic, data in once]
        super().close()

    def again(self, topic: str, data: bytes) -> bytes:
        """Return what the second graph sends in place of a message."""
        if topic == 'episode':
            message = deserialize_message(data, Episode)
            message.header.stamp.nanosec += 1_000_000
            data = serialize_message(message)
        return data


def picture(number: int, column: int) -> np.ndarray:
    """A smooth picture whose brightness rises with the frame's number: uint8 [160, 240, 3]."""
    rows, columns = np.mgrid[0:160, 0:240]
    channels = [rows, columns, np.full_like(rows, 40 * column + 2 * number)]
    return np.stack(channels, axis=-1).astype(np.uint8)
