"""The perception node alone, between cameras, a world model and an action node that the test plays."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from recorded_motion import MotionBag
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from support import Graph

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.robot import RobotProfile, load_profile, profile_path
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_msgs.msg import Episode, ExecutedActions, LatentFrame
from lingbot_va_ros import qos
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.bag_motion import Span, read_motion, rgb
from lingbot_va_ros.bringup import Bringup, BringupError
from lingbot_va_ros.conversions import latent_array, to_ns, to_time
from lingbot_va_ros.node_table import nodes
from lingbot_va_ros.perception_node import PerceptionNode
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
        self._episodes = node.create_publisher(Episode, 'episode', qos.LATCHED)
        self._executed = node.create_publisher(ExecutedActions, 'executed_actions', qos.STREAM)

    def ready(self) -> None:
        """Wait until the node is subscribed to everything."""
        publishers = [*self._cameras, self._episodes, self._executed]
        self.graph.wait_for(lambda: all(each.get_subscription_count() for each in publishers), what='subscriptions')

    def begin(self, number: int = 1, at_ns: int = T0) -> None:
        """Announce an episode."""
        episode = Episode(episode=number, task=1)
        episode.header.stamp = to_time(at_ns)
        self._episodes.publish(episode)
        assert self._episodes.wait_for_all_acked()

    def executed(self, index: int, frames: Sequence[float], episode: int = 1) -> None:
        """Report a latent frame whose motion was at the instants of these video frames."""
        report = ExecutedActions(episode=episode, latent_index=index)
        report.video_stamps = [to_time(T0 + round(frame * VIDEO_NS)) for frame in frames]
        self._executed.publish(report)
        assert self._executed.wait_for_all_acked()

    def send(self, frame: int, cameras: tuple[int, ...] = (0, 1, 2), **changes: Any) -> None:
        """Publish video frame `frame` of some cameras."""
        for camera in cameras:
            self._cameras[camera].publish(image(frame, camera, **changes))
            assert self._cameras[camera].wait_for_all_acked()

    def play(self, frames: range, cameras: tuple[int, ...] = (0, 1, 2)) -> None:
        """Publish up to five video frames, which the node's queues hold, and wait until it has taken them."""
        assert len(frames) <= 5
        self._sent += len(cameras) * len(frames)
        for frame in frames:
            self.send(frame, cameras)
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


@pytest.fixture
def stage(graph: Graph) -> Iterator[Stage]:
    """An active node."""
    stage = Stage(graph)
    with Bringup(PERCEPTION, {'robot': 'aloha', 'checkpoint': 'none'}, log=lambda line: None):
        stage.ready()
        yield stage


def covered(message: LatentFrame) -> list[float]:
    """Video frames of a latent frame."""
    return [(to_ns(stamp) - T0) / VIDEO_NS for stamp in message.frame_stamps]


def test_latents_are_those_of_the_encoder_on_the_same_images(stage: Stage) -> None:
    stage.begin()
    stage.play(range(5))
    stage.executed(1, range(1, 5))
    stage.play(range(5, 9))
    stage.executed(2, range(5, 9))
    stage.graph.wait_for(lambda: len(stage.latents) == 3, what='three latent frames')
    model = load_model(None, 'tiny', PROFILE, seed=0)
    encoder = StreamingEncoder(model.vae, model.config.rollout, 3)
    clips = [range(1), range(1, 5), range(5, 9)]
    for index, (message, clip) in enumerate(zip(stage.latents, clips, strict=True)):
        expected = encoder.encode([[pixels(frame, camera) for camera in range(3)] for frame in clip])[0].numpy()
        np.testing.assert_allclose(latent_array(message), expected, rtol=2e-3, atol=2e-3)
        assert (message.episode, message.index, message.missing) == (1, index, False)
        assert covered(message) == list(clip)


def test_bgr_images_give_the_same_latents(stage: Stage) -> None:
    stage.begin()
    stage.send(0)
    stage.graph.wait_for(lambda: stage.latents)
    stage.begin(2, at_ns=T0 + VIDEO_NS)
    for camera in range(3):
        message = image(0, camera, encoding='bgr8')
        message.data[:] = type(message.data)('B', pixels(0, camera)[:, :, ::-1].tobytes())
        message.header.stamp = to_time(T0 + VIDEO_NS)
        stage._cameras[camera].publish(message)
    stage.graph.wait_for(lambda: len(stage.latents) == 2)
    assert stage.latents[0].data == stage.latents[1].data


def test_images_from_before_the_episode_do_not_belong_to_it(stage: Stage) -> None:
    stage.begin(at_ns=T0 + 5 * VIDEO_NS)
    for frames in (range(4), range(4, 8)):
        stage.play(frames)
    stage.graph.wait_for(lambda: stage.latents)
    assert covered(stage.latents[0]) == [5]


def test_images_are_those_of_the_motion_and_not_of_the_time_between(stage: Stage) -> None:
    stage.begin()
    for frames in (range(5), range(5, 10), range(10, 15)):
        stage.play(frames)
    stage.executed(1, (3.2, 4.2, 9.8, 10.7))  # with a pause of five frames inside
    stage.graph.wait_for(lambda: len(stage.latents) == 2)
    assert covered(stage.latents[1]) == [3, 4, 10, 11]
    stage.begin(2, at_ns=T0 + 15 * VIDEO_NS)
    stage.executed(2, (11, 12, 13, 14))  # of an episode that is over
    stage.play(range(15, 16))
    stage.graph.wait_for(lambda: stage.latents[-1].episode == 2)
    assert [(each.episode, each.index) for each in stage.latents] == [(1, 0), (1, 1), (2, 0)]


def test_a_report_that_comes_twice_is_ignored(stage: Stage) -> None:
    stage.begin()
    stage.play(range(5))
    for _ in range(2):
        stage.executed(1, range(1, 5))
    stage.play(range(5, 9))
    stage.executed(2, range(5, 9))
    stage.graph.wait_for(lambda: len(stage.latents) == 3)
    assert [covered(each) for each in stage.latents] == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_lost_report_makes_a_missing_frame_and_ends_the_stream(stage: Stage) -> None:
    stage.begin()
    stage.play(range(5))
    stage.executed(2, range(1, 5))
    stage.graph.wait_for(lambda: len(stage.latents) == 2)
    missing = stage.latents[1]
    assert (missing.index, missing.missing, list(missing.data)) == (1, True, [])
    stage.executed(1, range(1, 5))
    stage.play(range(5, 9))
    stage.begin(2, at_ns=T0 + 6 * VIDEO_NS)
    stage.graph.wait_for(lambda: stage.latents[-1].episode == 2)
    assert [(each.episode, each.index) for each in stage.latents] == [(1, 0), (1, 1), (2, 0)]


def test_a_camera_without_images_makes_a_missing_frame_after_two_repeated_ones(stage: Stage) -> None:
    stage.begin()
    stage.play(range(3))
    for frames in (range(3, 7), range(7, 11)):
        stage.play(frames, cameras=(0, 2))
    stage.executed(1, range(1, 5))
    stage.executed(2, range(5, 9))
    stage.graph.wait_for(lambda: len(stage.latents) == 3)
    assert [each.missing for each in stage.latents] == [False, False, True]
    assert to_ns(stage.latents[2].header.stamp) == T0 + 5 * VIDEO_NS
    stage.graph.wait_for(lambda: stage.health().missing_frames == '1')
    assert stage.health().images_held == '3'


def test_cameras_that_are_all_silent_make_a_missing_frame_after_the_time_out(stage: Stage) -> None:
    stage.begin()
    stage.play(range(2))
    stage.executed(1, range(1, 5))  # long ago by the node's clock
    stage.graph.wait_for(lambda: len(stage.latents) == 2)
    assert stage.latents[1].missing


def test_without_an_episode_nothing_is_encoded(stage: Stage) -> None:
    stage.play(range(5))
    assert stage.latents == []


def test_cameras_that_never_came_or_stopped_are_named(stage: Stage) -> None:
    stage.send(0, cameras=(0, 1))
    stage.wait_for_problem('cam_high/image_raw (stopped)', 'cam_right_wrist/image_raw (never came)')


def test_an_image_of_another_size_is_refused_by_name(stage: Stage) -> None:
    stage.begin()
    stage.send(0, width=120, step=360)
    stage.wait_for_problem('the image on cam_high/image_raw has 120x160 pixels, but the profile says 240x160')
    assert stage.latents == []


@pytest.mark.parametrize('encoding', ['nonsense', '32FC1'])
def test_an_encoding_that_cannot_be_converted_is_refused_by_name(stage: Stage, encoding: str) -> None:
    stage.begin()
    stage.send(0, encoding=encoding)
    stage.wait_for_problem('the image on cam_high/image_raw cannot be converted to rgb8', encoding)
    assert stage.latents == []
    for frame in range(1, 3):
        stage.send(frame)
    stage.graph.wait_for(lambda: stage.latents, what='latents once the images are right')


def test_a_lost_image_is_counted(stage: Stage) -> None:
    for frame in (0, 1, 2, 5, 6):
        stage.send(frame)
    stage.graph.wait_for(lambda: stage.health().images_received == '15', what='all images')
    assert (stage.health().images_dropped, stage.health().images_held) == ('6', '0')


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        ({'robot': 'nobody'}, "robot 'nobody' is unknown; choose one of aloha"),
        ({'preset': 'huge'}, 'huge'),
        ({'checkpoint': '/nowhere/at/all'}, '/nowhere/at/all'),
        ({'device': 'cuda:7'}, "device 'cuda:7' cannot be used"),
        ({'synchronizer': 'message_filters', 'missing_camera': 'mask'}, 'gives whole sets or none; set missing_camera'),
    ],
)
def test_it_refuses_to_configure_what_it_cannot_do(parameters: dict[str, str], reason: str) -> None:
    lines: list[str] = []
    settings = {'perception': {'robot': 'aloha', **parameters}}
    with pytest.raises(BringupError, match='refused to configure') as refusal:
        Bringup(PERCEPTION, node_parameters=settings, log=lines.append).__enter__()
    assert reason in str(refusal.value)
    assert 'Traceback' not in '\n'.join(lines)


@contextmanager
def active_node(*parameters: str) -> Iterator[PerceptionNode]:
    """The node in this process, active; nothing spins it, the test calls what messages would."""
    names = ('robot:=aloha', 'checkpoint:=none', *parameters)
    rclpy.init(args=['--ros-args', *(part for name in names for part in ('-p', name))])
    node = PerceptionNode()
    try:
        assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        yield node
    finally:
        node._halt()
        node._release()
        node.destroy_node()
        rclpy.shutdown()


@pytest.mark.parametrize('rule', ['hold', 'mask'])
def test_a_camera_that_fails_is_shown_as_the_rule_says_until_it_comes_back(graph: Graph, rule: str) -> None:
    latents = graph.collect('latents', LatentFrame, qos.STREAM)
    with active_node(f'missing_camera:={rule}', 'camera_timeout_s:=60.0') as node:
        graph.wait_for(lambda: node._publisher.get_subscription_count(), what='the subscription')
        start = node.get_clock().now().nanoseconds
        episode = Episode(episode=1, task=1)
        episode.header.stamp = to_time(start)
        node._on_episode(episode)
        for index in range(1, 4):
            stamps = [to_time(start + (4 * index - 3 + i) * VIDEO_NS) for i in range(4)]
            node._on_executed(ExecutedActions(episode=1, latent_index=index, video_stamps=stamps))
        for frame in range(15):
            for camera in range(3):
                if camera == 1 and 2 < frame < 11:
                    continue
                message = image(frame, camera)
                message.header.stamp = to_time(start + frame * VIDEO_NS)
                node._on_image(camera, message)
        graph.wait_for(lambda: len(latents) == 4, what='four latent frames')
        assert (node._counts['images_held'], node._counts['images_masked']) == (8, 6 if rule == 'mask' else 0)

    def view(frame: int, camera: int) -> np.ndarray:
        if camera != 1 or frame <= 2 or frame >= 11:
            return pixels(frame, camera)
        return pixels(2, 1) if rule == 'hold' or frame <= 4 else np.full_like(pixels(0, 1), 128)

    model = load_model(None, 'tiny', PROFILE, seed=0)
    encoder = StreamingEncoder(model.vae, model.config.rollout, 3)
    for message, clip in zip(latents, [range(1), range(1, 5), range(5, 9), range(9, 13)], strict=True):
        expected = encoder.encode([[view(frame, camera) for camera in range(3)] for frame in clip])[0].numpy()
        np.testing.assert_allclose(latent_array(message), expected, rtol=2e-3, atol=2e-3)
        assert not message.missing


@pytest.mark.parametrize('rule', ['stop', 'hold', 'mask'])
def test_a_broken_image_is_shown_as_the_rule_says(graph: Graph, rule: str, tmp_path: Path) -> None:
    text = profile_path('aloha').read_text()
    (tmp_path / 'robot.yaml').write_text(text.replace('image: cam_high', 'transport: compressed, image: cam_high'))
    latents = graph.collect('latents', LatentFrame, qos.STREAM)
    with active_node(f'missing_camera:={rule}', f'robot:={tmp_path}/robot.yaml', 'camera_timeout_s:=60.0') as node:
        graph.wait_for(lambda: node._publisher.get_subscription_count(), what='the subscription')
        start = node.get_clock().now().nanoseconds
        episode = Episode(episode=1, task=1)
        episode.header.stamp = to_time(start)
        node._on_episode(episode)
        stamps = [to_time(start + frame * VIDEO_NS) for frame in range(1, 5)]
        node._on_executed(ExecutedActions(episode=1, latent_index=1, video_stamps=stamps))
        for frame in range(7):
            for camera in range(3):
                message = image(frame, camera) if camera else compressed(frame, broken=frame == 2)
                message.header.stamp = to_time(start + frame * VIDEO_NS)
                node._on_image(camera, message)
        graph.wait_for(lambda: len(latents) == 2, what='two latent frames')
        counts = node._counts
    assert [each.missing for each in latents] == [False, rule == 'stop']
    assert (counts['images_held'], counts['images_masked']) == (rule == 'hold', rule == 'mask')
    assert counts['images_refused'] == 0
    if rule == 'stop':
        return
    model = load_model(None, 'tiny', PROFILE, seed=0)
    encoder = StreamingEncoder(model.vae, model.config.rollout, 3)
    instead = pixels(1, 0) if rule == 'hold' else np.full_like(pixels(0, 0), 128)
    for message, clip in zip(latents, [range(1), range(1, 5)], strict=True):
        views = [[instead if frame == 2 else pixels(frame, 0), pixels(frame, 1), pixels(frame, 2)] for frame in clip]
        np.testing.assert_allclose(latent_array(message), encoder.encode(views)[0].numpy(), rtol=2e-3, atol=2e-3)


def compressed(frame: int, broken: bool) -> CompressedImage:
    """The image of the first camera as PNG, whole or cut off after its first bytes."""
    encoded = cv2.imencode('.png', pixels(frame, 0)[..., ::-1])[1].tobytes()
    return CompressedImage(format='png', data=encoded[: 9 if broken else None])


@pytest.mark.parametrize('rule', ['hold', 'mask'])
def test_without_any_camera_a_latent_frame_is_missing_whatever_the_rule(graph: Graph, rule: str) -> None:
    latents = graph.collect('latents', LatentFrame, qos.STREAM)
    with active_node(f'missing_camera:={rule}') as node:
        graph.wait_for(lambda: node._publisher.get_subscription_count(), what='the subscription')
        for camera in range(3):
            node._on_image(camera, image(0, camera))
        episode = Episode(episode=1, task=1)
        episode.header.stamp = to_time(T0)
        node._on_episode(episode)
        stamps = [to_time(T0 + frame * VIDEO_NS) for frame in range(1, 5)]
        node._on_executed(ExecutedActions(episode=1, latent_index=1, video_stamps=stamps))
        graph.wait_for(lambda: len(latents) == 2, what='two latent frames')
    assert [each.missing for each in latents] == [False, True]


FRAMED = {
    'cam_high': 'crop: [8, 0, 224, 160], resize: [112, 80]',
    'cam_left_wrist': 'rectify: true, crop: [16, 8, 200, 150]',
    'cam_right_wrist': 'transport: compressed',
}


def framed_profile(folder: Path) -> Path:
    """A profile of aloha whose cameras are cropped, resized, rectified and compressed."""
    text = profile_path('aloha').read_text()
    for name, framing in FRAMED.items():
        text = re.sub(rf'^(  {name}: *{{.*)}}$', rf'\1, {framing}}}', text, flags=re.MULTILINE)
    (folder / 'framed.yaml').write_text(text)
    return folder / 'framed.yaml'


def lens(at_ns: int) -> CameraInfo:
    """A calibration of the left wrist."""
    matrix = [200.0, 0.0, 119.5, 0.0, 200.0, 79.5, 0.0, 0.0, 1.0]
    info = CameraInfo(width=240, height=160, distortion_model='plumb_bob', d=[-0.2, 0.05, 0.0, 0.0, 0.0], k=matrix)
    info.header.stamp = to_time(at_ns)
    return info


def jpeg(frame: int, camera: int) -> CompressedImage:
    return CompressedImage(format='jpeg', data=cv2.imencode('.jpg', pixels(frame, camera)[..., ::-1])[1].tobytes())


def test_a_recording_gives_the_same_latents(graph: Graph, tmp_path: Path) -> None:
    """Framed cameras with jitter, an image that is held, arms that pause: what is converted is what was encoded."""
    path = framed_profile(tmp_path)
    stage = Stage(graph, load_profile(str(path)))
    with Bringup(PERCEPTION, {'robot': str(path), 'checkpoint': 'none'}, log=lambda line: None):
        stage.ready()
        record_and_convert(stage, path, tmp_path)


def record_and_convert(stage: Stage, path: Path, tmp_path: Path) -> None:
    profile, jitter = load_profile(str(path)), np.random.default_rng(1)
    bag = MotionBag(tmp_path / 'bag', profile=path.read_text())
    infos = stage.graph.node.create_publisher(CameraInfo, profile.cameras[1].info_topic, qos.COMMAND)
    stage.graph.wait_for(infos.get_subscription_count, what='the subscription of the calibration')
    infos.publish(lens(T0))
    assert infos.wait_for_all_acked()
    bag.sent(f'/{profile.cameras[1].info_topic}', T0 + 3 * VIDEO_NS, lens(T0))  # behind some images
    stage.begin(1)
    start = Episode(episode=1, task=1, instruction='look')
    start.header.stamp = to_time(T0)
    bag.sent('/episode', T0, start)
    due = [*range(1, 9), *(frame + 0.5 for frame in range(11, 15))]  # in the middle between images, after a pause
    for frame in range(17):
        for camera in range(3):
            if frame == 6 and camera == 1:
                continue  # held
            message = jpeg(frame, camera) if camera == 2 else image(frame, camera)
            at = T0 + frame * VIDEO_NS + int(jitter.integers(0, 20_000_000))
            message.header.stamp = to_time(at)
            stage._cameras[camera].publish(message)
            assert stage._cameras[camera].wait_for_all_acked()
            bag.sent(f'/{profile.cameras[camera].topic}', at, message)
        stage._sent += 2 if frame == 6 else 3
        if frame % 4 == 0:  # the node's queues hold five
            stage.graph.wait_for(lambda: int(stage.health().images_received) == stage._sent, what='the images')
        names, positions = [joint.name for joint in PROFILE.joints], [0.0] * len(PROFILE.joints)
        for at in range(T0 + frame * VIDEO_NS, T0 + (frame + 1) * VIDEO_NS, VIDEO_NS // 4):
            joints = JointState(name=names, position=positions)
            joints.header.stamp = to_time(at)
            bag.sent('/joint_states', at, joints)
        if frame in (4, 8, 16):
            index = 3 if frame == 16 else frame // 4
            report = ExecutedActions(episode=1, latent_index=index, actions=[0.0] * 480, mask=PROFILE.mask.tolist())
            instants = [T0 + round(each * VIDEO_NS) for each in due[4 * index - 4 : 4 * index]]
            report.header.stamp = to_time(instants[0] - VIDEO_NS)
            report.video_stamps = [to_time(each) for each in instants]
            stage._executed.publish(report)
            assert stage._executed.wait_for_all_acked()
            bag.sent('/executed_actions', T0 + frame * VIDEO_NS + 40_000_000, report)
    stage.graph.wait_for(lambda: len(stage.latents) == 4, what='four latent frames')

    model = load_model(None, 'tiny', PROFILE, 0)
    encoder = StreamingEncoder(model.vae, model.config.rollout, 3)
    with Bag(bag.close()) as opened:
        topics = [camera.topic for camera in profile.cameras]
        rows = [row for _, row in read_motion(opened, profile, [Span(T0, episode=1)])]
        assert [row.held for row in rows] == [0] * 6 + [1] + [0] * 6
        images = [[rgb(opened, profile, topics[i], i, *frame) for i, frame in enumerate(row.frames)] for row in rows]
    assert [image.shape for image in images[0]] == [(80, 112, 3), (150, 200, 3), (160, 240, 3)]
    for index, published in enumerate(stage.latents):
        group = rows[:1] if index == 0 else rows[4 * index - 3 : 4 * index + 1]
        frames = images[:1] if index == 0 else images[4 * index - 3 : 4 * index + 1]
        assert [to_ns(stamp) for stamp in published.frame_stamps] == [row.stamp_ns for row in group]
        assert np.array_equal(encoder.encode(frames)[0].numpy().astype(np.float16), latent_array(published))
