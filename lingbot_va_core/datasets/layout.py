"""What is where in a data set: the files and features of LeRobot v3, and what this project adds to them."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT, ClockError, LatentClock
from lingbot_va_core.robot import ACTION_DIM, RobotProfile

VERSION = 'v3.0'
FILES_PER_FOLDER = 1000  # `chunks_size`
DATA_FILE_BYTES = 100 * 2**20
INFO, STATS, TASKS, SPEC = 'meta/info.json', 'meta/stats.json', 'meta/tasks.parquet', 'meta/lingbot_va.json'
DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO_PATH = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
EPISODES_PATH = 'meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'

ACTION, EXECUTED, STATE = 'action', 'executed_action', 'observation.state'
SIGNALS = (ACTION, EXECUTED, STATE)
INDICES = {'timestamp': 'float32', 'frame_index': 'int64', 'episode_index': 'int64', 'index': 'int64',
           'task_index': 'int64'}  # fmt: skip
CHANNEL_NAMES = [
    *(f'{side}_{axis}' for side in ('left', 'right') for axis in ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')),
    *(f'{side}_joint_{i}' for side in ('left', 'right') for i in range(7)),
    'left_gripper',
    'right_gripper',
]


class DatasetError(ValueError):
    """A data set that cannot be written, read or trained on."""


def image_key(camera: str) -> str:
    """Return the name of the feature that holds a camera's video."""
    return f'observation.images.{camera}'


def video_path(camera: str, file: int) -> str:
    """Return where the video file number `file` of a camera is, relative to the data set."""
    chunk_index, file_index = divmod(file, FILES_PER_FOLDER)
    return VIDEO_PATH.format(video_key=image_key(camera), chunk_index=chunk_index, file_index=file_index)


@dataclass(frozen=True)
class View:
    """A camera and the size of its images in pixels."""

    name: str
    width: int
    height: int


@dataclass(frozen=True)
class DatasetSpec:
    """What holds for all episodes of a data set.

    Attributes:
        robot: name of the profile.
        clock: periods of commands and of video frames.
        mask: channels of the universal action in use; none for video without actions.
        channels: channel of each joint of the robot, in the profile's order.
        camera_layout: how the views share the canvas.
        cameras: in the order of the layout.
    """

    robot: str
    clock: LatentClock
    mask: tuple[bool, ...]
    channels: dict[str, int]
    camera_layout: str
    cameras: tuple[View, ...]

    def __post_init__(self) -> None:
        if len(self.mask) != ACTION_DIM:
            raise DatasetError(f'mask has {len(self.mask)} values; it must have {ACTION_DIM}')
        for view in self.cameras:
            if view.width % 2 or view.height % 2:
                raise DatasetError(f'{view.name} has {view.width} x {view.height} pixels; H.264 takes even sizes')

    @classmethod
    def from_profile(cls, profile: RobotProfile) -> 'DatasetSpec':
        """Describe the data of a robot."""
        return cls(
            robot=profile.name,
            clock=profile.clock,
            mask=tuple(profile.mask.tolist()),
            channels={joint.name: joint.channel for joint in profile.joints if joint.channel is not None},
            camera_layout=profile.camera_layout,
            cameras=tuple(View(camera.name, *camera.view_size) for camera in profile.cameras),
        )

    @property
    def steps(self) -> int:
        """Control periods between two video frames."""
        return self.clock.video_ns // self.clock.action_ns

    @property
    def fps(self) -> float:
        """Video frames per second."""
        return NANOSECONDS / self.clock.video_ns

    @property
    def used(self) -> np.ndarray:
        """The mask as bool [30]."""
        return np.array(self.mask)

    @property
    def used_channels(self) -> list[int]:
        """The channels in use: those of the joints in the profile's order, then the others."""
        joints = [channel for channel in self.channels.values() if self.mask[channel]]
        return joints + [channel for channel in range(ACTION_DIM) if self.mask[channel] and channel not in joints]

    def features(self) -> dict[str, dict]:
        """Return the features in the form of `info.json`."""
        features: dict[str, dict] = {}
        for view in self.cameras:
            features[image_key(view.name)] = {
                'dtype': 'video',
                'shape': [view.height, view.width, 3],
                'names': ['height', 'width', 'channels'],
                'info': {
                    'video.height': view.height,
                    'video.width': view.width,
                    'video.codec': 'h264',
                    'video.pix_fmt': 'yuv420p',
                    'video.is_depth_map': False,
                    'video.fps': self.fps,
                    'video.channels': 3,
                    'has_audio': False,
                },
            }
        for name in SIGNALS:
            features[name] = {'dtype': 'float32', 'shape': [self.steps, ACTION_DIM], 'names': CHANNEL_NAMES}
        features |= {name: {'dtype': dtype, 'shape': [1], 'names': None} for name, dtype in INDICES.items()}
        return features

    def info(self, episodes: int, frames: int, tasks: int) -> dict:
        """Return the content of `info.json`."""
        return {
            'codebase_version': VERSION,
            'robot_type': self.robot,
            'total_episodes': episodes,
            'total_frames': frames,
            'total_tasks': tasks,
            'chunks_size': FILES_PER_FOLDER,
            'data_files_size_in_mb': DATA_FILE_BYTES // 2**20,
            'video_files_size_in_mb': 200,
            'fps': self.fps,
            'splits': {'train': f'0:{episodes}'},
            'data_path': DATA_PATH,
            'video_path': VIDEO_PATH,
            'features': self.features(),
        }

    def to_dict(self) -> dict:
        """Return the JSON form."""
        return asdict(self) | {'mask': list(self.mask), 'cameras': [asdict(view) for view in self.cameras]}

    @classmethod
    def from_dict(cls, document: dict, source: Path) -> 'DatasetSpec':
        """Read the JSON form; raises DatasetError with the name of the file."""
        try:
            return cls(
                robot=str(document['robot']),
                clock=LatentClock(**document['clock']),
                mask=tuple(bool(value) for value in document['mask']),
                channels={str(name): int(channel) for name, channel in document['channels'].items()},
                camera_layout=str(document['camera_layout']),
                cameras=tuple(View(**view) for view in document['cameras']),
            )
        except (KeyError, TypeError, AttributeError, ClockError) as error:
            raise DatasetError(f'{source} does not describe a data set of this project: {error!r}') from error


def latent_frames(frames: int) -> int:
    """Return how many latent frames `frames` video frames make beyond latent frame 0."""
    return (frames - 1) // VIDEO_FRAMES_PER_LATENT
