"""The node that encodes synchronized camera images into latent frames, streaming."""

import time
from functools import partial

import numpy as np
import torch
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.imagined_stream import ImaginedStream
from lingbot_va_core.robot import load_profile
from lingbot_va_core.sampling import FrameSampler, FrameSet
from lingbot_va_core.streaming import StreamingDecoder, StreamingEncoder
from lingbot_va_msgs.msg import Episode, ExecutedActions, LatentFrame
from lingbot_va_ros import qos
from lingbot_va_ros.camera_input import CameraInput
from lingbot_va_ros.conversions import MessageError, latent_array, latent_message, missing_latent_message, to_ns
from lingbot_va_ros.images import ImageError
from lingbot_va_ros.imagined_images import ImaginedImages
from lingbot_va_ros.managed_node import ERROR, OK, ROBOT, WARN, ManagedNode, Parameter, RefusedError, run
from lingbot_va_ros.matched_sets import MatchedSets, library
from lingbot_va_ros.model_parameters import MODEL_PARAMETERS, declare_choice, load
from lingbot_va_ros.recorded_topics import image_type, imagined_topic

STOP, HOLD, MASK = 'stop', 'hold', 'mask'
REFERENCE_CLOCK, MESSAGE_FILTERS = 'reference_clock', 'message_filters'
COUNTS = ('images_received', 'images_held', 'images_masked', 'images_refused', 'latent_frames', 'missing_frames')
RISKS = {
    HOLD: 'a camera that fails is shown to the model as it was last, and the arms move on',
    MASK: 'a camera that fails is shown to the model as a grey view, and the arms move on; the model must have been '
    'trained so',
}


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
            'Video frames in a row that may repeat an image; after more, missing_camera says what follows.',
            lower=0,
            upper=100,
        ),
        Parameter(
            'missing_camera',
            STOP,
            'What follows then: stop (the latent frame is missing, the arms hold until all cameras are back), hold '
            '(the last image is shown on) or mask (a grey view is shown; the model must have been trained so).',
            choices=(STOP, HOLD, MASK),
        ),
        Parameter(
            'synchronizer',
            REFERENCE_CLOCK,
            'How images of several cameras are brought together: each the nearest to the instants of the motion '
            '(reference_clock), or in sets that message_filters has matched.',
            choices=(REFERENCE_CLOCK, MESSAGE_FILTERS),
        ),
        Parameter(
            'max_skew_s',
            0.04,
            'Of message_filters: how far the stamps of a set may be apart.',
            lower=0.001,
            upper=1.0,
        ),
    )

    def __init__(self) -> None:
        super().__init__('perception')
        declare_choice(self)

    def setup(self) -> None:
        """Load the VAE, encode once to warm up, and create entities."""
        if self.value('synchronizer') == MESSAGE_FILTERS and self.value('missing_camera') != STOP:
            raise RefusedError(
                f"missing_camera is '{self.value('missing_camera')}', but message_filters gives whole sets or none; "
                f'set missing_camera to {STOP}, or synchronizer to {REFERENCE_CLOCK}'
            )
        if self.value('synchronizer') == MESSAGE_FILTERS:
            library()  # or say that it is not installed
        self._profile = profile = load_profile(self.value('robot'))
        model = load(self, profile, 'vae')
        self._model_name = model.name
        self._encoder = StreamingEncoder(model.vae, model.config.rollout, len(profile.cameras), model.device)
        self._inputs = [CameraInput(camera) for camera in profile.cameras]
        blank = [each.mask for each in self._inputs]
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
            if camera.rectify:  # before its images: of what waits, the executor takes first what subscribed first
                self.subscription(CameraInfo, camera.info_topic, self._inputs[number].calibrate, qos.SENSOR)
            self.subscription(image_type(camera), camera.topic, partial(self._on_image, number), qos.SENSOR)
        self.subscription(Episode, 'episode', self._on_episode, qos.LATCHED)
        self.subscription(ExecutedActions, 'executed_actions', self._on_executed, qos.STREAM)
        self.timer(profile.clock.video_ns / NANOSECONDS, self._advance, self._steady)

    def start(self) -> None:
        """Begin to watch the cameras; encoding begins with an episode."""
        cameras, rule = len(self._profile.cameras), self.value('missing_camera')
        self._sampler = FrameSampler(cameras, self._profile.clock.video_ns, self.value('max_held_images'))
        self._push = self._sampler.push
        if self.value('synchronizer') == MESSAGE_FILTERS:
            self._push = MatchedSets(cameras, self.value('max_skew_s'), self._sampler.push).push
        if rule in RISKS:
            self.get_logger().warning(f'missing_camera is {rule}: {RISKS[rule]}')
        for each in self._inputs:
            each.begin()
        self._counts = dict.fromkeys(COUNTS, 0)
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
        self._stamps: list[int] = []  # of the video frames of the next latent frame that are there already
        self._images: list[list[np.ndarray]] = []  # of all cameras, for each of them
        self._encoder.reset()
        self._imagined.begin()
        newest = self._sampler.newest_ns
        if newest is not None and newest > self.get_clock().now().nanoseconds:
            self._sampler.clear()  # the clock was set back
        self._sampler.begin(to_ns(episode.header.stamp), complete=self.value('missing_camera') != MASK)

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

    def _on_image(self, number: int, message: Image | CompressedImage) -> None:
        self._counts['images_received'] += 1
        if self._inputs[number].accept(message):
            self._push(number, to_ns(message.header.stamp), message)
            self._advance()
        else:
            self._counts['images_refused'] += 1

    def _advance(self) -> None:
        """Take what the sampler has; called with every input, and by a timer, which notices when there is none."""
        if not self._running:
            return
        overdue_ns = self.get_clock().now().nanoseconds - round(self.value('camera_timeout_s') * NANOSECONDS)
        for frames in self._sampler.take(overdue_ns):
            if self._running:
                self._on_frames(frames)

    def _on_frames(self, frames: FrameSet) -> None:
        """Convert the images of a video frame as soon as they are there, and encode with the fourth."""
        self._counts['images_held'] += frames.held
        rule, missing = self.value('missing_camera'), frames.missing
        blind = len(missing) == len(self._inputs) or (rule == HOLD and None in frames.frames)
        if missing and (rule == STOP or blind):
            names = ', '.join(self._profile.cameras[camera].name for camera in missing)
            self._miss(self._index, frames.instant_ns, f'no image of {names}')
            return
        try:
            images = self._images_of(frames, rule)
        except ImageError as error:
            self._miss(self._index, frames.instant_ns, str(error))
            return
        self._stamps.append(frames.stamp_ns)
        self._images.append(images)
        if len(self._stamps) == (VIDEO_FRAMES_PER_LATENT if self._index else 1):
            self._encode()

    def _images_of(self, frames: FrameSet, rule: str) -> list[np.ndarray]:
        """Convert the images of a video frame; the rule says what is shown for one that is missing or broken.

        Raises:
            ImageError: one is broken, and there is nothing to show for it, or no other camera.
        """
        absent, images = set(frames.missing), []
        for number, each in enumerate(self._inputs):
            image = None
            if rule != MASK or number not in absent:
                try:
                    image = each.rgb(frames.frames[number])
                except ImageError as error:  # compressed, of an accepted format, and broken
                    absent.add(number)
                    image = each.last if rule == HOLD else None
                    if len(absent) == len(self._inputs) or (image is None and rule != MASK):
                        raise
                    self._counts['images_held'] += rule == HOLD
                    self.get_logger().warning(str(error), throttle_duration_sec=5.0)
            self._counts['images_masked'] += image is None
            images.append(each.mask if image is None else image)
        return images

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
        latent = self._encoder.encode(self._images)[0]
        message = latent_message(
            latent.numpy(), self._episode.episode, self._index, self._stamps, self._model_name, self._profile
        )
        self._publisher.publish(message)
        self._stamps, self._images = [], []
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
        timeout = self.value('camera_timeout_s')
        silent = [silence for each in self._inputs if (silence := each.silence(timeout))]
        refused = [each.refusal for each in self._inputs if each.refusal]
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
