"""The perception node alone, between cameras, a world model and an action node that the test plays."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from perception_stage import PERCEPTION, PROFILE, T0, VIDEO_NS, Stage, image, pixels
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CompressedImage
from support import Graph, node_of

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.robot import profile_path
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_msgs.msg import Episode, ExecutedActions, LatentFrame
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import latent_array, to_ns, to_time
from lingbot_va_ros.perception_node import PerceptionNode

pytestmark = pytest.mark.patient  # images wait in queues that the tests do not overrun


@pytest.fixture(scope='module')
def shared_stage() -> Iterator[Stage]:
    """An active node, which the tests of this file share."""
    with Graph() as graph:
        stage = Stage(graph)
        with Bringup(PERCEPTION, {'robot': 'aloha', 'checkpoint': 'none'}, log=lambda line: None):
            stage.ready()
            yield stage


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The same, as it is when it has just become active."""
    shared_stage.renew()
    return shared_stage


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
        stage.show(camera, message)
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
    stage.wait_until_taken()
    assert (stage.health().images_dropped, stage.health().images_held) == ('6', '0')


@pytest.mark.parametrize(
    ('parameters', 'reason'),
    [
        (['robot:=nobody'], "robot 'nobody' is unknown; choose one of aloha"),
        (['preset:=huge'], 'huge'),
        (['checkpoint:=/nowhere/at/all'], '/nowhere/at/all'),
        (['device:=cuda:7'], "device 'cuda:7' cannot be used"),
        (['synchronizer:=message_filters', 'missing_camera:=mask'], 'gives whole sets or none; set missing_camera'),
    ],
)
def test_it_refuses_to_configure_what_it_cannot_do(
    parameters: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with node_of(PerceptionNode, 'robot:=aloha', *parameters) as node:
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    said = capfd.readouterr().err
    assert 'cannot configure' in said and reason in said
    assert 'Traceback' not in said


@contextmanager
def active_node(*parameters: str) -> Iterator[PerceptionNode]:
    """The node in this process, active; nothing spins it, the test calls what messages would."""
    with node_of(PerceptionNode, 'robot:=aloha', 'checkpoint:=none', *parameters) as node:
        assert node.trigger_configure() == node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        yield node


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
