"""What the perception node encodes is what a conversion makes of a recording of the same messages."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from perception_stage import PERCEPTION, PROFILE, T0, VIDEO_NS, Stage, image, pixels
from recorded_motion import MotionBag
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from support import Graph

from lingbot_va_core.checkpoint import load_model
from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_msgs.msg import Episode, ExecutedActions
from lingbot_va_ros.bag import Bag
from lingbot_va_ros.bag_motion import Span, read_motion, rgb
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import latent_array, to_ns, to_time

pytestmark = pytest.mark.patient  # images wait in queues that the test does not overrun
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
    stage.infos[0].publish(lens(T0))
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
            stage.show(camera, message)
            bag.sent(f'/{profile.cameras[camera].topic}', at, message)
        if frame % 4 == 0:  # the node's queues hold five
            stage.wait_until_taken()
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
            stage.report(report)
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
