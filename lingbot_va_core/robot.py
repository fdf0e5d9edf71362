"""Robot profiles: which joints, tools, cameras and topics a robot has, and where they live in the universal action."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import yaml

from lingbot_va_core.clock import ClockError, LatentClock
from lingbot_va_core.resources import share_dir

ACTION_DIM = 30
CHANNELS = {'left': (*range(14, 21), 28), 'right': (*range(21, 28), 29)}  # joints, then the gripper
POSE_CHANNELS = {'left': tuple(range(7)), 'right': tuple(range(7, 14))}  # x y z, quaternion x y z w
CAMERA_LAYOUTS = {'width': (1, 8), 'tshape': (3, 3)}  # fewest and most cameras


class ProfileError(ValueError):
    """A robot profile that cannot be read or contradicts itself."""


@dataclass(frozen=True)
class Joint:
    """A commanded joint. Units: rad (m for grippers), per second, per second squared."""

    name: str
    channel: int
    lower: float
    upper: float
    velocity: float
    acceleration: float
    home: float


@dataclass(frozen=True)
class EndEffector:
    """A tool whose pose is part of the action: where `tool_frame` is in `base_frame`, both names of tf frames."""

    tool_frame: str
    base_frame: str


@dataclass(frozen=True)
class Arm:
    """One arm, its gripper included: what one controller moves. It has joints, an end effector, or both."""

    side: str
    trajectory_topic: str
    joints: tuple[Joint, ...]
    end_effector: EndEffector | None = None

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the arm's part of the action: the pose of its end effector, if it has one, then its joints."""
        pose = POSE_CHANNELS[self.side] if self.end_effector else ()
        return (*pose, *(joint.channel for joint in self.joints))


@dataclass(frozen=True)
class Camera:
    """A camera as the robot publishes it; width and height in pixels."""

    name: str
    image_topic: str
    info_topic: str
    frame_id: str
    width: int
    height: int


@dataclass(frozen=True)
class RobotProfile:
    """Everything that differs between robots.

    A joint vector has the order of `joints`. An action vector has the order of `channels`: arm by arm as the profile
    lists them, in each the pose of the end effector (m, unit quaternion x y z w) and then the joints. For a robot
    without end effectors the two are the same.
    """

    name: str
    description: str
    clock: LatentClock
    joint_states_topic: str
    arms: tuple[Arm, ...]
    camera_layout: str
    cameras: tuple[Camera, ...]

    @cached_property
    def joints(self) -> tuple[Joint, ...]:
        """The joints of all arms, arm by arm."""
        return tuple(joint for arm in self.arms for joint in arm.joints)

    @cached_property
    def channels(self) -> np.ndarray:
        """Channel of the universal action for each value of the action vector, int64 [values]."""
        return np.array([channel for arm in self.arms for channel in arm.channels])

    @cached_property
    def mask(self) -> np.ndarray:
        """Channels that this robot uses, bool [30]."""
        mask = np.zeros(ACTION_DIM, dtype=bool)
        mask[self.channels] = True
        return mask

    def limits(self, field: str) -> np.ndarray:
        """One field of every joint ('lower', 'upper', 'velocity', 'acceleration', 'home'), float64 [joints]."""
        return np.array([getattr(joint, field) for joint in self.joints])

    def to_universal(self, actions: np.ndarray) -> np.ndarray:
        """Scatter action vectors [..., values] into zero-padded universal actions, float32 [..., 30]."""
        self._check_width(actions, len(self.channels), 'an action vector')
        universal = np.zeros((*actions.shape[:-1], ACTION_DIM), dtype=np.float32)
        universal[..., self.channels] = actions
        return universal

    def from_universal(self, universal: np.ndarray) -> np.ndarray:
        """Gather action vectors [..., values] from universal actions [..., 30]."""
        self._check_width(universal, ACTION_DIM, 'a universal action')
        return universal[..., self.channels]

    def _check_width(self, values: np.ndarray, width: int, what: str) -> None:
        if values.ndim == 0 or values.shape[-1] != width:
            raise ProfileError(f'the shape {values.shape} does not end in {width}, the size of {what} of {self.name}')


def robot_names() -> list[str]:
    """Names of the profiles that are installed."""
    return sorted(path.stem for path in (share_dir() / 'config' / 'robots').glob('*.yaml'))


def profile_path(name_or_path: str) -> Path:
    """Return the file of a profile named in `config/robots/` or given as a YAML file; ProfileError if there is none."""
    is_path = '/' in name_or_path or name_or_path.endswith(('.yaml', '.yml'))
    path = Path(name_or_path) if is_path else share_dir() / 'config' / 'robots' / f'{name_or_path}.yaml'
    if not path.is_file():
        raise ProfileError(
            f'no profile file at {path}'
            if is_path
            else f"robot '{name_or_path}' is unknown; choose one of {', '.join(robot_names())} or give a YAML file"
        )
    return path


def load_profile(name_or_path: str) -> RobotProfile:
    """Load a profile by its name in `config/robots/` or from a YAML file.

    Raises:
        ProfileError: unknown name, unreadable file, missing or unknown field, or a contradiction; the message
            names the file, the field, the value and what is allowed.
    """
    path = profile_path(name_or_path)
    try:
        return parse_profile(path.read_text(), str(path))
    except (UnicodeDecodeError, OSError) as error:
        raise ProfileError(f'{path} cannot be read: {error}') from error


def parse_profile(text: str, source: str) -> RobotProfile:
    """Read a profile from YAML; like `load_profile`, with `source` in the messages of errors."""
    try:
        return _parse(yaml.load(text, _Loader))
    except yaml.YAMLError as error:
        raise ProfileError(f'{source} cannot be read as YAML: {error}') from error
    except (ProfileError, ClockError) as error:
        raise ProfileError(f'{source}: {error}') from error


class _Loader(yaml.SafeLoader):
    """Refuses a name that is given twice; YAML would forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _check_unique(f'line {node.start_mark.line + 1} and following: the name', names)
        return super().construct_mapping(node, deep)


def _parse(document: object) -> RobotProfile:
    top = _fields(
        document,
        'profile',
        {'name': str, 'description': str, 'rates': dict, 'joint_states': str, 'arms': dict, 'camera_layout': str,
         'cameras': dict},
    )  # fmt: skip
    rates = _fields(top['rates'], 'rates', {'control_hz': float, 'video_hz': float})
    if not top['arms']:
        raise ProfileError('arms is empty; name at least one of left, right')
    profile = RobotProfile(
        name=top['name'],
        description=top['description'],
        clock=LatentClock.from_rates(rates['control_hz'], rates['video_hz']),
        joint_states_topic=top['joint_states'],
        arms=tuple(_arm(side, arm) for side, arm in top['arms'].items()),
        camera_layout=top['camera_layout'],
        cameras=tuple(_camera(name, camera) for name, camera in top['cameras'].items()),
    )
    _check_unique('joint', [joint.name for joint in profile.joints])
    _check_unique('channel', [str(channel) for channel in profile.channels])
    _check_unique('tool frame', [arm.end_effector.tool_frame for arm in profile.arms if arm.end_effector])
    _check_unique('trajectory topic', [arm.trajectory_topic for arm in profile.arms])
    _check_unique('image topic', [camera.image_topic for camera in profile.cameras])
    _check_layout(profile.camera_layout, len(profile.cameras))
    return profile


def _arm(side: str, value: object) -> Arm:
    if side not in CHANNELS:
        raise ProfileError(f"arm '{side}' is unknown; name arms {' and '.join(CHANNELS)}")
    where = f'arms.{side}'
    arm = _fields(value, where, {'trajectory': str}, {'joints': dict, 'end_effector': dict})
    if 'joints' not in arm and 'end_effector' not in arm:
        raise ProfileError(f'{where} has no channel of the action; give it joints, an end_effector, or both')
    if not arm.get('joints', True):
        raise ProfileError(f'{where}.joints is empty')
    joints = tuple(_joint(side, name, joint) for name, joint in arm.get('joints', {}).items())
    tool = _end_effector(f'{where}.end_effector', arm['end_effector']) if 'end_effector' in arm else None
    return Arm(side=side, trajectory_topic=arm['trajectory'], joints=joints, end_effector=tool)


def _end_effector(where: str, value: object) -> EndEffector:
    tool = EndEffector(**_fields(value, where, {'tool_frame': str, 'base_frame': str}))
    if tool.tool_frame == tool.base_frame:
        raise ProfileError(f'{where}: tool_frame and base_frame are both {tool.tool_frame}; a pose needs two frames')
    return tool


def _joint(side: str, name: str, value: object) -> Joint:
    where = f'arms.{side}.joints.{name}'
    numbers = dict.fromkeys(('lower', 'upper', 'velocity', 'acceleration', 'home'), float)
    joint = Joint(name=name, **_fields(value, where, {'channel': int, **numbers}))
    if joint.channel not in CHANNELS[side]:
        raise ProfileError(
            f'{where}.channel is {joint.channel}; joints of the {side} arm have the channels {CHANNELS[side][:-1]}, '
            f'its gripper has {CHANNELS[side][-1]}'
        )
    if not joint.lower < joint.upper:
        raise ProfileError(f'{where}: lower {joint.lower} is not below upper {joint.upper}')
    if not joint.lower <= joint.home <= joint.upper:
        raise ProfileError(f'{where}.home is {joint.home}, outside [{joint.lower}, {joint.upper}]')
    for field in ('velocity', 'acceleration'):
        if getattr(joint, field) <= 0:
            raise ProfileError(f'{where}.{field} is {getattr(joint, field)}; it must be above 0')
    return joint


def _camera(name: str, value: object) -> Camera:
    where = f'cameras.{name}'
    camera = _fields(value, where, {'image': str, 'info': str, 'frame': str, 'width': int, 'height': int})
    for field in ('width', 'height'):
        if not 16 <= camera[field] <= 4096:
            raise ProfileError(f'{where}.{field} is {camera[field]}; it must be from 16 to 4096 pixels')
    return Camera(name, camera['image'], camera['info'], camera['frame'], camera['width'], camera['height'])


def _check_layout(layout: str, count: int) -> None:
    if layout not in CAMERA_LAYOUTS:
        raise ProfileError(f"camera_layout is '{layout}'; choose one of {', '.join(CAMERA_LAYOUTS)}")
    fewest, most = CAMERA_LAYOUTS[layout]
    if not fewest <= count <= most:
        allowed = f'{fewest}' if fewest == most else f'{fewest} to {most}'
        raise ProfileError(f'camera_layout {layout} takes {allowed} cameras, but the profile lists {count}')


def _check_unique(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ProfileError(f'{what} {", ".join(repeated)} is used more than once')


def _fields(value: object, where: str, types: dict[str, type], optional: dict[str, type] | None = None) -> dict:
    """Check that `value` is a mapping with these fields of these types and no others; integers pass as floats."""
    known = types | (optional or {})
    if not isinstance(value, dict):
        raise ProfileError(f'{where} must be a mapping, not {value!r}')
    missing = [name for name in types if name not in value]
    unknown = [str(name) for name in value if name not in known]
    if missing or unknown:
        problems = [f'missing {", ".join(missing)}'] * bool(missing) + [f'unknown {", ".join(unknown)}'] * bool(unknown)
        raise ProfileError(f'{where}: {"; ".join(problems)}; the fields are {", ".join(known)}')
    return {name: _field(value[name], f'{where}.{name}', kind) for name, kind in known.items() if name in value}


def _field(value: object, where: str, kind: type) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is float and not np.isfinite(value)):
        raise ProfileError(f'{where} is {value!r}; it must be a {kind.__name__}')
    if value == '':
        raise ProfileError(f'{where} is empty; give it a name')
    return value
