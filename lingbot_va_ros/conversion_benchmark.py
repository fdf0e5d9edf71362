"""Measures a conversion: writes a teleoperated bag with cameras that are noisy, and converts it in a process."""

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from builtin_interfaces.msg import Duration
from rclpy.serialization import serialize_message
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import RobotProfile, parse_profile, profile_path
from lingbot_va_ros.bag_writer import METADATA_VERSION
from lingbot_va_ros.conversions import to_time
from lingbot_va_ros.message_types import message_types
from lingbot_va_ros.node_benchmark import memory_mib
from lingbot_va_ros.recording_benchmark import pictures

WIDTH, HEIGHT = 320, 256
IMAGE_HZ, JOINTS_HZ, COMMANDS_HZ, TICKS_HZ = 30, 100, 50, 300
PERIOD = Duration(nanosec=NANOSECONDS // COMMANDS_HZ)
BEGIN_NS = 1_700_000_000 * NANOSECONDS
POLL_S = 0.2
SHORTEST_S, LONGEST_S = 1.0, 7200.0


def measure_conversion(seconds: float, workers: int, folder: Path | None = None) -> dict[str, Any]:
    """Convert a bag of three cameras of 320 x 256 pixels at 30 Hz, joints at 100 Hz and commands at 50 Hz.

    Args:
        seconds: length of the bag; a minute takes about 0.6 GB.
        workers: processes of the conversion.
        folder: for bag and data set, which are removed in the end; None: the system's for temporary files.

    Returns:
        bag_s, bag_bytes, workers; wall_s and cpu_s of the conversion; peak_mib: the largest sum of the resident memory
        of its processes, looked at every 0.2 s; data_bytes.

    Raises:
        ValueError: `seconds` or `workers` is out of range.
        RuntimeError: the conversion failed.
    """
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ValueError(f'--seconds is {seconds:g}; it must be from {SHORTEST_S:g} to {LONGEST_S:g}')
    if not 1 <= workers <= 256:
        raise ValueError(f'--workers is {workers}; it must be from 1 to 256')
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='lingbot_va_bench_', dir=folder) as name:
        bag, data = Path(name) / 'bag', Path(name) / 'data'
        write_bag(bag, seconds)
        command = [sys.executable, '-m', 'lingbot_va_ros.cli', 'convert', str(bag), '--out', str(data)]
        before, began = os.times(), time.monotonic()
        process = subprocess.Popen(
            [*command, '--workers', str(workers)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _memory_of_family(process.pid))
            time.sleep(POLL_S)
        wall, after = time.monotonic() - began, os.times()
        if process.returncode:
            raise RuntimeError(f'the conversion failed: {process.stderr.read().strip()}')
        return {
            'bag_s': seconds,
            'bag_bytes': _size(bag),
            'workers': workers,
            'wall_s': round(wall, 2),
            'cpu_s': round(sum(after[2:4]) - sum(before[2:4]), 2),
            'peak_mib': round(peak, 1),
            'data_bytes': _size(data),
        }


def write_bag(path: Path, seconds: float) -> None:
    """Write the bag that is converted; its robot is ALOHA with other cameras."""
    text = _profile_text()
    profile = parse_profile(text, 'the robot of the benchmark')
    messages = _Messages(profile)
    writer = Writer(path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        for key, value in {'robot': profile.name, 'profile': text, 'instruction': 'do as before'}.items():
            writer.set_custom_data(key, value)
        connections = {
            name: writer.add_connection(f'/{name}', kind, typestore=message_types(), offered_qos_profiles=list[Qos]())
            for name, kind in messages.kinds.items()
        }
        for tick in range(round(seconds * TICKS_HZ)):
            stamp_ns = BEGIN_NS + tick * NANOSECONDS // TICKS_HZ
            for name, message in messages.at(tick, stamp_ns):
                writer.write(connections[name], stamp_ns, serialize_message(message))


class _Messages:
    """What the robot says, with one message of each kind that is filled again and again.

    Attributes:
        kinds: message types by topic.
    """

    def __init__(self, profile: RobotProfile) -> None:
        self._joints = profile.joints
        self._joint_topic = profile.joint_states_topic
        self._arms = [(arm.output.topic, [joint.name for joint in arm.output_joints]) for arm in profile.arms]
        self._pictures = [array('B', picture.tobytes()) for picture in pictures(profile.cameras[0])]
        self._cameras = [camera.image_topic for camera in profile.cameras]
        self.kinds = {
            **dict.fromkeys(self._cameras, 'sensor_msgs/msg/Image'),
            self._joint_topic: 'sensor_msgs/msg/JointState',
            **dict.fromkeys([topic for topic, _ in self._arms], 'trajectory_msgs/msg/JointTrajectory'),
        }

    def at(self, tick: int, stamp_ns: int) -> Iterator[tuple[str, Any]]:
        """Yield topic and message of all that is due."""
        time, angle = to_time(stamp_ns), 0.1 * math.sin(tick / TICKS_HZ)
        if tick % (TICKS_HZ // JOINTS_HZ) == 0:
            message = JointState(name=[joint.name for joint in self._joints])
            message.header.stamp, message.position = time, [joint.home + angle for joint in self._joints]
            yield self._joint_topic, message
        if tick % (TICKS_HZ // COMMANDS_HZ) == 0:
            for topic, names in self._arms:
                point = JointTrajectoryPoint(
                    positions=[angle] * len(names), time_from_start=Duration(nanosec=20_000_000)
                )
                yield topic, JointTrajectory(joint_names=names, points=[point])
        if tick % (TICKS_HZ // IMAGE_HZ) == 0:
            frame = self._pictures[tick // (TICKS_HZ // IMAGE_HZ) % len(self._pictures)]
            for topic in self._cameras:
                message = Image(height=HEIGHT, width=WIDTH, step=3 * WIDTH, encoding='rgb8')
                message.header.stamp, message.data = time, frame
                yield topic, message


def _profile_text() -> str:
    document = yaml.safe_load(profile_path('aloha').read_text())
    for camera in document['cameras'].values():
        camera |= {'width': WIDTH, 'height': HEIGHT}
    return yaml.safe_dump(document, sort_keys=False)


def _family(pid: int) -> list[int]:
    """Return a process and all that it has started, and they in turn."""
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    except OSError:  # it has just ended
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _memory_of_family(pid: int) -> float:
    total = 0.0
    for member in _family(pid):
        with contextlib.suppress(OSError):  # it has just ended
            total += memory_mib(member)
    return total


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
