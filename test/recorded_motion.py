"""Writes bags of a small robot whose joints, commands and pictures at any instant are known, without a graph."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from rosbags.interfaces import Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import parse_profile
from lingbot_va_ros.message_types import message_types

PROFILE_TEXT = """
name: mini
description: Three joints on the left, driven by trajectories, and one on the right, driven by samples.
rates: {control_hz: 50.0, video_hz: 12.5}
joint_states: joint_states
arms:
  left:
    output: {type: joint_trajectory, topic: left/joint_trajectory}
    joints:
      left_a: {channel: 14, lower: -9.0, upper: 9.0, velocity: 5.0, acceleration: 20.0, home: 0.0}
      left_b: {channel: 15, lower: -9.0, upper: 9.0, velocity: 5.0, acceleration: 20.0, home: 0.0}
      left_grip: {channel: 28, lower: -9.0, upper: 9.0, velocity: 5.0, acceleration: 20.0, home: 0.0}
    gripper: {type: gripper_command, action: left/gripper, threshold: 0.002}
  right:
    output: {type: joint_group, topic: right/commands}
    joints:
      right_a: {channel: 21, lower: -9.0, upper: 9.0, velocity: 5.0, acceleration: 20.0, home: 0.0}
camera_layout: width
cameras:
  head: {image: head/image_raw, info: head/camera_info, frame: head, width: 64, height: 48}
  wrist: {image: wrist/image_raw, info: wrist/camera_info, frame: wrist, width: 64, height: 48}
"""
PROFILE = parse_profile(PROFILE_TEXT, 'mini')


def framed_profile(camera: str, fields: str) -> str:
    """Return PROFILE_TEXT with further fields of a camera, such as 'crop: [0, 0, 32, 32]'."""
    begin, end = PROFILE_TEXT.split(f'  {camera}: ')
    return f'{begin}  {camera}: {end.replace("}", f", {fields}}}", 1)}'


CHANNELS = [14, 15, 28, 21]
CAMERAS = ('head', 'wrist')
T0 = 1_700_000_000 * NANOSECONDS
DT, VIDEO = PROFILE.clock.action_ns, PROFILE.clock.video_ns
NOTES = {'robot': 'mini', 'profile': PROFILE_TEXT, 'instruction': 'wipe the table'}
STORE = message_types()
DELAY = 2_000_000  # from a stamp to its reception


def measured(at_ns: int) -> np.ndarray:
    """The joints at an instant: straight lines."""
    return np.array([0.1, 0.2, 0.3, 0.4]) * (1 + (at_ns - T0) / NANOSECONDS)


def commanded(at_ns: int) -> np.ndarray:
    """What a leader does at an instant; a follower lags behind."""
    return measured(at_ns) + 0.5


def picture(at_ns: int, camera: int) -> np.ndarray:
    """A smooth picture that tells camera and time: 8 levels for each hundredth of a second, over and over."""
    level = ((at_ns - T0) // 10_000_000) * 2 % 160 + 30 * camera
    ramp = np.linspace(0, 40, 64)[None, :, None] + np.zeros((48, 1, 3))
    return (ramp + level).clip(0, 255).astype(np.uint8)


def make(kind: str, **fields: Any) -> Any:
    """Build a message, such as make('std_msgs/msg/Bool', data=True)."""
    return STORE.types[kind](**fields)


def time(ns: int) -> Any:
    return make('builtin_interfaces/msg/Time', sec=ns // NANOSECONDS, nanosec=ns % NANOSECONDS)


def header(ns: int) -> Any:
    return make('std_msgs/msg/Header', stamp=time(ns), frame_id='')


class MotionBag:
    """A bag in the making."""

    def __init__(self, path: Path, storage: StoragePlugin = StoragePlugin.MCAP, **notes: str) -> None:
        self.path = path
        self._writer = Writer(path, version=8, storage_plugin=storage)
        if storage == StoragePlugin.MCAP:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._notes = NOTES | notes
        self._messages: list[tuple[int, str, str, bytes]] = []

    def add(self, topic: str, log_ns: int, message: Any) -> None:
        kind = message.__msgtype__
        self._messages.append((log_ns, topic, kind, STORE.serialize_cdr(message, kind)))

    def sent(self, topic: str, log_ns: int, message: Any) -> None:
        """Add a message of rclpy."""
        kind = type(message)
        name = f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
        self._messages.append((log_ns, topic, name, serialize_message(message)))

    def image(self, camera: int, at_ns: int, compressed: bool = False, delay_ns: int = DELAY, **fields: int) -> None:
        pixels = picture(at_ns, camera)
        topic = f'/{CAMERAS[camera]}/image_raw'
        stamp = fields.pop('stamp', at_ns)
        if compressed:
            data = cv2.imencode('.png', pixels[..., ::-1])[1].ravel()
            message = make('sensor_msgs/msg/CompressedImage', header=header(stamp), format='png', data=data)
            self.add(f'{topic}/compressed', at_ns + delay_ns, message)
            return
        fields = {'height': 48, 'width': 64, 'encoding': 'rgb8', 'step': 192} | fields
        self.add(topic, at_ns + delay_ns, make(
            'sensor_msgs/msg/Image', header=header(stamp), is_bigendian=0, data=pixels.ravel(), **fields))  # fmt: skip

    def joints(self, at_ns: int, names: list[int] | None = None, delay_ns: int = DELAY) -> None:
        order = [0, 1, 2, 3] if names is None else names
        all_names, none = ['left_a', 'left_b', 'left_grip', 'right_a'], np.array([])
        self.add('/joint_states', at_ns + delay_ns, make(
            'sensor_msgs/msg/JointState', header=header(at_ns), name=[all_names[i] for i in order],
            position=measured(at_ns)[order], velocity=none, effort=none))  # fmt: skip

    def command(self, at_ns: int) -> None:
        """Let the leader command both arms: the left one with stamps, the right one without."""
        none, values = np.array([]), commanded(at_ns)
        point = make(
            'trajectory_msgs/msg/JointTrajectoryPoint', positions=values[:2], velocities=none, accelerations=none,
            effort=none, time_from_start=make('builtin_interfaces/msg/Duration', sec=0, nanosec=0),
        )  # fmt: skip
        self.add('/left/joint_trajectory', at_ns + DELAY, make(
            'trajectory_msgs/msg/JointTrajectory', header=header(at_ns), joint_names=['left_a', 'left_b'],
            points=[point]))  # fmt: skip
        layout = make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
        self.add('/right/commands', at_ns, make('std_msgs/msg/Float64MultiArray', layout=layout, data=values[3:]))

    def episode(self, at_ns: int, number: int, task: int = 1) -> None:
        self.add('/episode', at_ns, make(
            'lingbot_va_msgs/msg/Episode', header=header(at_ns), episode=number, task=task, mode=0,
            instruction='fold the towel'))  # fmt: skip

    def executed(self, number: int, index: int, begin_ns: int, stamps: list[int], actions: np.ndarray) -> None:
        dt = make('builtin_interfaces/msg/Duration', sec=0, nanosec=DT)
        self.add('/executed_actions', stamps[-1] + DELAY, make(
            'lingbot_va_msgs/msg/ExecutedActions', header=header(begin_ns), episode=number, latent_index=index,
            chunk=0, dt=dt, mask=PROFILE.mask, actions=actions.ravel().astype(np.float32),
            video_stamps=[time(stamp) for stamp in stamps], limited=0, held=0))  # fmt: skip

    def solved(self, at_ns: int) -> None:
        self.add('/task_success', at_ns, make('std_msgs/msg/Bool', data=True))

    def event(self, at_ns: int, event: str) -> None:
        text = json.dumps({'event': event, 'episode': 1, 'stamp': at_ns})
        self.add('/recording_events', at_ns, make('std_msgs/msg/String', data=text))

    def close(self) -> Path:
        with self._writer as writer:
            for key, value in self._notes.items():
                writer.set_custom_data(key, value)
            connections = {}
            for _, topic, kind, _ in self._messages:
                if (topic, kind) not in connections:
                    connections[topic, kind] = writer.add_connection(
                        topic, kind, typestore=STORE, offered_qos_profiles=list[Qos]()
                    )
            for log_ns, topic, kind, data in sorted(self._messages, key=lambda message: message[0]):
                writer.write(connections[topic, kind], log_ns, data)
        return self.path


def teleoperate(
    bag: MotionBag,
    seconds: float = 2.0,
    outage: tuple[float, float] | None = None,
    begin_ns: int = T0,
    **images: Any,
) -> None:
    """Fill a bag with cameras at 25 Hz, a little apart, joints at 100 Hz and commands at 50 Hz.

    The wrist camera is silent between the two instants `outage`, in s.
    """
    for k in range(round(seconds * 100) + 1):
        at = begin_ns + k * 10_000_000
        bag.joints(at)
        if k % 2 == 0:
            bag.command(at)
        if k % 4 == 0:
            bag.image(0, at, **images)
            if outage is None or not outage[0] <= k / 100 < outage[1]:
                bag.image(1, at + 3_000_000, **images)


def act(bag: MotionBag, number: int, begin_ns: int, latents: int, pause_ns: int = 0, task: int = 1) -> list[np.ndarray]:
    """Add an episode of our graph: its announcement, cameras, joints and reports; return the actions reported.

    Frame 0 is at `begin_ns`; the arms hold for `pause_ns` before each latent frame but the first.
    """
    bag.episode(begin_ns - VIDEO // 2, number, task)
    random, reported, at = np.random.default_rng(number), [], begin_ns
    for index in range(1, latents + 1):
        at += pause_ns if index > 1 else 0
        actions = np.zeros((16, 30), np.float32)
        actions[:, CHANNELS] = random.normal(size=(16, 4))
        bag.executed(number, index, at, [at + (j + 1) * VIDEO for j in range(4)], actions)
        reported.append(actions)
        at += 4 * VIDEO
    for k in range((at - begin_ns) // DT + 2):
        bag.joints(begin_ns + k * DT)
        if k % 4 == 0:
            for camera in range(2):
                bag.image(camera, begin_ns + k * DT)
    return reported
