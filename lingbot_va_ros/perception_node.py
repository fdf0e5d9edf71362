"""The node that encodes synchronized camera images into latent frames, streaming."""

import time
from functools import partial

import numpy as np
import torch
from sensor_msgs.msg import Image

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.imagined_stream import ImaginedStream
from lingbot_va_core.robot import load_profile
from lingbot_va_core.sampling import FrameSampler, FrameSet
from lingbot_va_core.streaming import StreamingDecoder, StreamingEncoder
from lingbot_va_msgs.msg import Episode, ExecutedActions, LatentFrame
from lingbot_va_ros import qos
from lingbot_va_ros.conversions import MessageError, latent_array, latent_message, missing_latent_message, to_ns
from lingbot_va_ros.images import ImageError, to_rgb
from lingbot_va_ros.imagined_images import ImaginedImages
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, run
from lingbot_va_ros.model_parameters import MODEL_PARAMETERS, declare_choice, load
from lingbot_va_ros.recorded_topics import imagined_topic


class PerceptionNode(ManagedNode):
    """Samples the cameras at the instants of the executed motion and encodes every four frames into a latent frame."""

    PARAMETERS = (
        ROBOT,
        *MODEL_PARAMETERS,
        Parameter(
            'camera_timeout_s',
            0.5,
            'A camera without an image for longer is reported, and no longer waited for.',
            lower=0.05,
            upper=60.0,
        ),
        Parameter(
            'max_held_images',
            2,
            'Video frames in a row that may repeat an image; after more the latent frame is missing.',
            lower=0,
            upper=100,
        ),
    )

    def __init__(self) -> None:
        super().__init__('perception')
        declare_choice(self)

    def setup(self) -> None:
        """Load the VAE, encode once to warm up, and create entities."""
        self._profile = profile = load_profile(self.value('robot'))
        model = load(self, profile, 'vae')
        self._model_name = model.name
        self._encoder = StreamingEncoder(model.vae, model.config.rollout, len(profile.cameras), model.device)
        blank = [np.zeros((camera.height, camera.width, 3), np.uint8) for camera in profile.cameras]
        self._encoder.encode([blank])
        self._encoder.encode([blank] * VIDEO_FRAMES_PER_LATENT)
        self._publisher = self.publisher(LatentFrame, 'latents', qos.STREAM)
        self._latent_shape = model.config.latent_shape
        self._imagined = ImaginedImages(
            ImaginedStream(StreamingDecoder(model.vae, model.config.rollout, len(profile.cameras), model.device)),
            model.device,
            profile.cameras,
            [self.publisher(Image, imagined_topic(camera), qos.SENSOR) for camera in profile.cameras],
            lambda: self.get_clock().now().nanoseconds,
            lambda text: self.get_logger().warning(text, throttle_duration_sec=5.0),
        )
        self.on_teardown(self._imagined.close)
        self.subscription(LatentFrame, 'imagined', self._on_imagined, qos.STREAM)
        for number, camera in enumerate(profile.cameras):
            self.subscription(Image, camera.image_topic, partial(self._on_image, number), qos.SENSOR)
        self.subscription(Episode, 'episode', self._on_episode, qos.LATCHED)
        self.subscription(ExecutedActions, 'executed_actions', self._on_executed, qos.STREAM)
        self.timer(profile.clock.video_ns / NANOSECONDS, self._advance, self._steady)

    def start(self) -> None:
        """Begin to watch the cameras; encoding begins with an episode."""
        cameras = len(self._profile.cameras)
        self._sampler = FrameSampler(cameras, self._profile.clock.video_ns, self.value('max_held_images'))
        self._received_at = [time.monotonic()] * cameras
        self._seen = [False] * cameras
        self._accepted: list[tuple | None] = [None] * cameras
        self._refused = [''] * cameras
        self._counts = dict.fromkeys(
            ('images_received', 'images_held', 'images_refused', 'latent_frames', 'missing_frames'), 0
        )
        self._encode_ms = 0.0
        self._begin(Episode())

    def stop(self) -> None:
        """Forget the episode."""
        self._begin(Episode())

    def _begin(self, episode: Episode) -> None:
        self._episode = episode
        self._running = episode.episode > 0  # until a latent frame is missing
        self._index = 0  # next latent frame to encode
        self._asked = 1  # next latent frame to ask the sampler for
        self._frames: list[FrameSet] = []
        self._encoder.reset()
        self._imagined.begin()
        newest = self._sampler.newest_ns
        if newest is not None and newest > self.get_clock().now().nanoseconds:
            self._sampler.clear()  # the clock was set back
        self._sampler.begin(to_ns(episode.header.stamp))

    def _on_episode(self, message: Episode) -> None:
        if message.episode != self._episode.episode:
            self._begin(message)
            self._advance()

    def _on_executed(self, message: ExecutedActions) -> None:
        """Ask for the images of a latent frame that was executed; reports follow each other, or one was lost."""
        if message.episode != self._episode.episode or not self._running or message.latent_index < self._asked:
            return
        stamps = [to_ns(stamp) for stamp in message.video_stamps]
        if message.latent_index > self._asked:
            self._miss(self._asked, to_ns(message.header.stamp), f'the report of frame {self._asked} was lost')
        elif len(stamps) != VIDEO_FRAMES_PER_LATENT:
            self._miss(self._asked, to_ns(message.header.stamp), f'its report has {len(stamps)} video stamps')
        else:
            self._sampler.ask(stamps)
            self._asked += 1
            self._advance()

    def _on_image(self, number: int, message: Image) -> None:
        self._counts['images_received'] += 1
        self._seen[number] = True
        self._received_at[number] = time.monotonic()
        kind = (message.width, message.height, message.encoding, message.step, len(message.data))
        if kind != self._accepted[number]:
            self._accepted[number] = None
            self._refused[number] = self._refusal(number, message)
            if self._refused[number]:
                self._counts['images_refused'] += 1
                return
            self._accepted[number] = kind
        self._sampler.push(number, to_ns(message.header.stamp), message)
        self._advance()

    def _refusal(self, number: int, image: Image) -> str:
        """Say why an image cannot be used, or return ''. What is refused is not encoded, and the arms hold."""
        camera = self._profile.cameras[number]
        if (image.width, image.height) != (camera.width, camera.height):
            return (
                f'{camera.image_topic} sends {image.width}x{image.height} images, but the profile '
                f'{self._profile.name} says {camera.width}x{camera.height}; correct one of them'
            )
        try:
            to_rgb(image)
        except ImageError as error:
            return (
                f"{camera.image_topic} sends images of encoding '{image.encoding}' ({len(image.data)} bytes) that "
                f'cannot be converted to rgb8 ({error}); publish rgb8 or bgr8'
            )
        return ''

    def _advance(self) -> None:
        """Take what the sampler has; called with every input, and by a timer, which notices when there is none."""
        if not self._running:
            return
        overdue_ns = self.get_clock().now().nanoseconds - round(self.value('camera_timeout_s') * NANOSECONDS)
        for frames in self._sampler.take(overdue_ns):
            if self._running:
                self._on_frames(frames)

    def _on_frames(self, frames: FrameSet) -> None:
        self._counts['images_held'] += frames.held
        if frames.missing:
            names = ', '.join(self._profile.cameras[camera].name for camera in frames.missing)
            self._miss(self._index, frames.instant_ns, f'no image of {names}')
            return
        self._frames.append(frames)
        if len(self._frames) == (VIDEO_FRAMES_PER_LATENT if self._index else 1):
            self._encode()

    def _miss(self, index: int, stamp_ns: int, reason: str) -> None:
        """Say that a latent frame is missing; the stream ends here, and the world model begins another episode."""
        self._running = False
        self._counts['missing_frames'] += 1
        self.get_logger().warning(f'episode {self._episode.episode}: latent frame {index} is missing: {reason}')
        self._publisher.publish(
            missing_latent_message(self._episode.episode, index, stamp_ns, self._model_name, self._profile)
        )

    def _encode(self) -> None:
        started = time.perf_counter()
        group, self._frames = self._frames, []
        images = [[to_rgb(image) for image in each.frames] for each in group]
        latent = self._encoder.encode(images)[0]
        stamps = [each.stamp_ns for each in group]
        message = latent_message(
            latent.numpy(), self._episode.episode, self._index, stamps, self._model_name, self._profile
        )
        self._publisher.publish(message)
        self._imagined.observe(self._index, latent)
        self._index += 1
        self._counts['latent_frames'] += 1
        self._encode_ms = 1e3 * (time.perf_counter() - started)

    def _on_imagined(self, message: LatentFrame) -> None:
        """Show what the world model imagines; a message that cannot be shown is ignored."""
        if message.episode != self._episode.episode or len(message.frame_stamps) != VIDEO_FRAMES_PER_LATENT:
            return
        try:
            latent = latent_array(message)
        except MessageError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        if latent.shape == self._latent_shape:
            stamps = [to_ns(stamp) for stamp in message.frame_stamps]
            self._imagined.imagine(message.index, torch.from_numpy(latent), stamps)

    def update_diagnostics(self) -> None:
        """Say which camera is silent or refused, and the counters since activation."""
        timeout, now = self.value('camera_timeout_s'), time.monotonic()
        silent = [
            f'{camera.image_topic} ({"stopped" if seen else "never came"})'
            for camera, at, seen in zip(self._profile.cameras, self._received_at, self._seen, strict=True)
            if now - at > timeout
        ]
        refused = [reason for reason in self._refused if reason]
        if refused:
            level, message = ERROR, '; '.join(refused)
        elif silent:
            level = ERROR
            message = f'no image for {timeout:g} s on {", ".join(silent)}; is the camera running?'
        elif self._sampler.dropped:
            level, message = WARN, 'images went missing'
        else:
            level, message = OK, ''
        self.report(
            level,
            message,
            images_dropped=self._sampler.dropped,
            encode_ms=f'{self._encode_ms:.2f}',
            imagined_decoded=self._imagined.decoded,
            model=self._model_name,
            **self._counts,
        )


def main() -> None:
    """Run the node."""
    run(PerceptionNode)


if __name__ == '__main__':
    main()
