"""What Foxglove needs beside a recording: a layout for its robot, and imagined video, which bags hold as latents."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.serialization import serialize_message

from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.world_model import WorldModel
from lingbot_va_ros.atomic import write_json
from lingbot_va_ros.bag import Bag, nanoseconds
from lingbot_va_ros.bag_topics import IMAGE
from lingbot_va_ros.bag_writer import BagError, BagWriter
from lingbot_va_ros.foxglove_layout import foxglove_layout
from lingbot_va_ros.imagined_images import image_message
from lingbot_va_ros.imagined_video import decodable_model, imagined_frames
from lingbot_va_ros.qos import SENSOR
from lingbot_va_ros.recorded_topics import imagined_topic

LAYOUT, IMAGINED = 'layout.json', 'imagined'
QUEUE_BYTES = 2**30  # far more than decoding is ahead of the disk


def write_foxglove(
    bag: Bag, profile: RobotProfile, device: str | None, folder: Path, say: Callable[[str], None]
) -> None:
    """Write `folder`/layout.json and, unless the bag has these images already, the bag `folder`/imagined.

    Args:
        bag: open.
        profile: of the robot.
        device: that decodes what was imagined; None: that of the recording.
        folder: may exist.
        say: told what was written, and what cannot be shown.

    Raises:
        BagError: a bag lies there already, or cannot be written.
        BagReadError: the recording cannot be read.
    """
    names = next((list(message.name) for _, _, message in bag.messages(profile.joint_states_topic)), None)
    images = {camera.topic: bag.image_topic(camera) or camera.topic for camera in profile.cameras}
    layout = foxglove_layout(profile, lambda topic: bag.resolve(images.get(topic, topic)), names)
    write_json(folder / LAYOUT, layout)
    say(f'{folder / LAYOUT}: choose "Import from file" among the layouts of Foxglove')
    model = decodable_model(bag, profile, device, say)
    if model is not None:
        count = _write_imagined(bag, profile, model, folder / IMAGINED)
        say(f'{folder / IMAGINED}: {count} images of each camera; open its .mcap together with that of {bag.path}')


def _write_imagined(bag: Bag, profile: RobotProfile, model: WorldModel, path: Path) -> int:
    """Write a bag with images on the topics on which perception shows them live; return how many for each camera."""
    received = [
        (nanoseconds(message.header.stamp), log_ns) for _, log_ns, message in bag.messages(profile.joint_states_topic)
    ]
    stamps, logged = np.array(received or [(0, 0)], dtype=np.int64).T
    offsets = logged - stamps  # the clock of the recorder; that of the stamps may start over
    writer = BagWriter(path, {'imagined_by': model.name}, QUEUE_BYTES)
    try:
        topics = [writer.add_topic(bag.resolve(imagined_topic(each)), IMAGE, SENSOR) for each in profile.cameras]
        count = 0
        for frame in imagined_frames(bag.messages, len(profile.cameras), model):
            then = np.searchsorted(logged, frame.received_ns).clip(max=len(logged) - 1)
            log_ns = frame.stamp_ns + int(offsets[then])
            for topic, camera, image in zip(topics, profile.cameras, frame.images, strict=True):
                writer.put(topic, log_ns, serialize_message(image_message(image, frame.stamp_ns, camera.frame_id)))
            count += 1
    except BaseException:
        writer.discard()
        raise
    writer.close()
    if writer.dropped:
        raise BagError(f'{path} is not complete: the disk was too slow')
    return count
