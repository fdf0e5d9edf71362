"""The load of `bench nodes --record`: three more cameras beside the graph, and a recorder of everything.

Run as a program, it is the cameras: recording_benchmark PROFILE NAMESPACE.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sensor_msgs.msg import CameraInfo, Image

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import Camera, load_profile, profile_path
from lingbot_va_ros.bag import Bag, nanoseconds
from lingbot_va_ros.camera_feed import CameraFeed
from lingbot_va_ros.client_node import ClientNode
from lingbot_va_ros.conversions import to_time
from lingbot_va_ros.node_benchmark import lost_frames
from lingbot_va_ros.qos import SENSOR
from lingbot_va_ros.side_process import Recorder, SideProcess

PREFIX = 'bench_'
CAMERAS, WIDTH, HEIGHT, RATE_HZ = 3, 640, 480, 30
READY_S = 30.0
NOISE = 3.0  # levels: what a sensor has, and a codec or a disk feels
PICTURES = 8


class RecordingLoad:
    """Publishes the cameras for the length of a `with` block; `recorder` records within it.

    Args:
        robot: of the running graph.
        namespace: of the graph.
    """

    def __init__(self, robot: str, namespace: str) -> None:
        self._robot, self._namespace = robot, namespace
        self._stack = ExitStack()

    def __enter__(self) -> 'RecordingLoad':
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='lingbot_va_bench_')))
        self._profile = self._folder / 'profile.yaml'
        self._profile.write_text(with_cameras(profile_path(self._robot).read_text()))
        arguments = [str(self._profile), self._namespace]
        self._stack.enter_context(SideProcess('cameras', __name__, arguments, lambda line: None))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @contextmanager
    def recorder(self) -> Iterator[int]:
        """Record everything until the block ends, and yield the recorder's process id.

        Raises:
            SideProcessError: it ended early, or a topic has no publisher.
        """
        arguments = ['--robot', str(self._profile), '--namespace', self._namespace]
        arguments += ['--out', str(self._folder / 'bag'), '--json', str(self._folder / 'recorded.json')]
        with Recorder(arguments, lambda line: None) as recorder:
            recorder.wait_until_ready(READY_S, lambda: None)
            yield recorder.pid

    def result(self) -> dict[str, Any]:
        """Return what the recorder wrote, once it has ended.

        Returns:
            messages, bytes of the bag; dropped: messages that did not fit into the recorder's queue; lost: images of
            the cameras that are missing between the first and the last in the bag, whoever lost them.
        """
        recorded = json.loads((self._folder / 'recorded.json').read_text())
        cameras = [camera for camera in load_profile(str(self._profile)).cameras if camera.name.startswith(PREFIX)]
        stamps: dict[str, list[int]] = {camera.image_topic: [] for camera in cameras}
        with Bag(self._folder / 'bag') as bag:
            for topic, _, message in bag.messages(*stamps):
                stamps[topic].append(nanoseconds(message.header.stamp))
        period = NANOSECONDS // RATE_HZ
        return {
            'messages': sum(recorded['messages'].values()),
            'bytes': sum(path.stat().st_size for path in (self._folder / 'bag').iterdir()),
            'dropped': recorded['dropped'],
            'lost': {camera.name: lost_frames(stamps[camera.image_topic], period) for camera in cameras},
        }


def with_cameras(profile: str) -> str:
    """Return the text of a profile with the cameras of the load."""
    document = yaml.safe_load(profile)
    for number in range(CAMERAS):
        name = f'{PREFIX}{number}'
        topics = {'image': f'{name}/image_raw', 'info': f'{name}/camera_info', 'frame': name}
        document['cameras'][name] = {**topics, 'width': WIDTH, 'height': HEIGHT}
    document['camera_layout'] = 'width'
    return yaml.safe_dump(document, sort_keys=False)


def pictures(camera: Camera) -> np.ndarray:
    """Return a few pictures with noise, uint8 [PICTURES, height, width, 3]."""
    random = np.random.default_rng(0)
    ramp = np.linspace(20, 200, camera.width)[None, None, :, None]
    noise = random.normal(0, NOISE, (PICTURES, camera.height, camera.width, 3))
    return (ramp + 5 * np.arange(PICTURES)[:, None, None, None] + noise).clip(0, 255).astype(np.uint8)


def main() -> None:
    """Publish the cameras of the load until SIGINT."""
    path, namespace = sys.argv[1:]
    cameras = [camera for camera in load_profile(path).cameras if camera.name.startswith(PREFIX)]
    shown = pictures(cameras[0])
    with ClientNode('cameras', namespace) as client:
        publish = client.node.create_publisher
        feeds = [CameraFeed(c, publish(Image, c.image_topic, SENSOR), publish(CameraInfo, c.info_topic, SENSOR))
                 for c in cameras]  # fmt: skip
        begin, number = time.time_ns(), 0
        while True:
            number += 1
            due = begin + number * NANOSECONDS // RATE_HZ
            time.sleep(max(due - time.time_ns(), 0) / NANOSECONDS)
            for feed in feeds:
                feed.pixels[:] = shown[number % PICTURES]
                feed.publish(to_time(due))


if __name__ == '__main__':
    main()
