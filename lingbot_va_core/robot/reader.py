"""Reads robot profiles from YAML and names every mistake in them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import yaml

from lingbot_va_core.clock import ClockError, LatentClock
from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot.arm_reader import read_arm
from lingbot_va_core.robot.fields import (
    ABOVE_ZERO,
    FLAG,
    MAPPING,
    TEXT,
    TOPIC,
    choice,
    read_entries,
    read_fields,
    whole_between,
    whole_numbers,
)
from lingbot_va_core.robot.profile import (
    CAMERA_LAYOUTS,
    CHANNELS,
    Arm,
    Camera,
    Kinematics,
    ProfileError,
    RobotProfile,
)

RATES = {'control_hz': ABOVE_ZERO, 'video_hz': ABOVE_ZERO}
SMALLEST, LARGEST = 16, 4096  # pixels
PIXELS = whole_between(SMALLEST, LARGEST)
CAMERA = {'image': TOPIC, 'info': TOPIC, 'frame': TEXT, 'width': PIXELS, 'height': PIXELS}
FRAMING = {
    'transport': choice('raw', 'compressed'),
    'rectify': FLAG,
    'crop': whole_numbers('x, y, width and height in pixels', 4, 0),
    'resize': whole_numbers('width and height in pixels', 2, SMALLEST),
}
PROFILE = {
    'name': TEXT,
    'description': TEXT,
    'rates': MAPPING,
    'joint_states': TOPIC,
    'arms': MAPPING,
    'camera_layout': choice(*CAMERA_LAYOUTS),
    'cameras': MAPPING,
}


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
        ProfileError: unknown name, unreadable file, missing or unknown fields, or contradictions; the message names
            the file and, for every mistake, the field, the value and what is allowed.
    """
    path = profile_path(name_or_path)
    try:
        return parse_profile(path.read_text(), str(path), path.resolve().parent)
    except (UnicodeDecodeError, OSError) as error:
        raise ProfileError(f'{path} cannot be read: {error}') from error


def parse_profile(text: str, source: str, folder: Path | None = None) -> RobotProfile:
    """Read a profile from YAML.

    Like `load_profile`, with `source` in the messages of errors. Paths in the profile are relative to `folder`; whether
    the files are there is not looked at.
    """
    problems: list[str] = []
    try:
        loader = _Loader(text)
        document = loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError(f'{source} cannot be read as YAML: {" ".join(str(error).split())}') from error
    problems += loader.repeated
    return _profile(document, source, folder, problems)


class _Loader(yaml.SafeLoader):
    """Notes names that are given twice; YAML would forget the first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        line = node.start_mark.line + 1
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.repeated.append(f'line {line} and following: the name {name} is used more than once')
        return super().construct_mapping(node, deep)


def _profile(document: object, source: str, folder: Path | None, problems: list[str]) -> RobotProfile:
    """Build the profile, or raise an error that names `problems` and whatever else is wrong."""
    top = read_fields(document, 'profile', PROFILE, {'kinematics': MAPPING}, problems)
    clock = _clock(top['rates'], problems) if 'rates' in top else None
    kinematics = _kinematics(top['kinematics'], folder, problems) if 'kinematics' in top else None
    arms = _arms(top['arms'], 'kinematics' in top, problems) if 'arms' in top else ()
    cameras = _cameras(top['cameras'], problems) if 'cameras' in top else ()
    if 'camera_layout' in top and 'cameras' in top:
        _check_layout(top['camera_layout'], len(top['cameras']), problems)
    joints = list(_listed_joints(top.get('arms', {})))
    listed = {name for _, name, _ in joints}
    strangers = [name for name in (kinematics.names if kinematics else ()) if name not in listed]
    if strangers:
        problems.append(f'kinematics.joints names {", ".join(strangers)}, which no arm has; remove them')
    _check_names(joints, arms, problems)
    _check_topics(top.get('joint_states'), arms, cameras, problems)
    if problems:
        numbered = problems if len(problems) == 1 else [f'({i}) {text}' for i, text in enumerate(problems, start=1)]
        count = '' if len(problems) == 1 else f'{len(problems)} mistakes: '
        raise ProfileError(f'{source}: {count}{"; ".join(numbered)}', problems, arms, kinematics)
    return RobotProfile(
        top['name'], top['description'], clock, top['joint_states'], arms, top['camera_layout'], cameras, kinematics
    )


def _clock(value: dict, problems: list[str]) -> LatentClock | None:
    rates = read_fields(value, 'rates', RATES, {}, problems)
    if rates.keys() != RATES.keys():
        return None
    try:
        return LatentClock.from_rates(**rates)
    except ClockError as error:
        problems.append(f'rates: {error}')
        return None


def _kinematics(value: dict, folder: Path | None, problems: list[str]) -> Kinematics | None:
    fields = read_fields(value, 'kinematics', {}, {'urdf': TEXT, 'mjcf': TEXT, 'joints': MAPPING}, problems)
    formats = [name for name in ('urdf', 'mjcf') if name in value]
    if len(formats) != 1:
        problems.append(f'kinematics has {" and ".join(formats) or "no file"}; give one of urdf, mjcf')
    names = read_entries(fields.get('joints', {}), 'kinematics.joints', problems)
    names = read_fields(names, 'kinematics.joints', {}, dict.fromkeys(names, TEXT), problems)
    if len(formats) != 1 or formats[0] not in fields:
        return None
    return Kinematics(formats[0], fields[formats[0]], folder, names)


def _arms(value: dict, kinematics: bool, problems: list[str]) -> tuple[Arm, ...]:
    if not value:
        problems.append('arms is empty; name at least one of left, right')
    strangers = [side for side in value if side not in CHANNELS]
    problems += [f'arms.{side} is unknown; name arms {" and ".join(CHANNELS)}' for side in strangers]
    arms = [read_arm(side, arm, kinematics, problems) for side, arm in value.items() if side in CHANNELS]
    return tuple(arm for arm in arms if arm is not None)


def _listed_joints(arms: dict) -> Iterator[tuple[object, object, dict]]:
    """Yield arm, name and fields of joints, wrong ones included."""
    for side, arm in arms.items():
        entries = arm.get('joints') if isinstance(arm, dict) else None
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            yield side, name, entry if isinstance(entry, dict) else {}


def _cameras(value: dict, problems: list[str]) -> tuple[Camera, ...]:
    cameras = []
    for name, entry in read_entries(value, 'cameras', problems).items():
        fields = read_fields(entry, f'cameras.{name}', CAMERA, FRAMING, problems)
        if not CAMERA.keys() <= fields.keys():
            continue
        framing = {field: fields[field] for field in FRAMING if field in fields}
        camera = Camera(name, *(fields[field] for field in CAMERA), **framing)
        _check_framing(camera, problems)
        cameras.append(camera)
    return tuple(cameras)


def _check_framing(camera: Camera, problems: list[str]) -> None:
    """The crop lies within the image, and is not enlarged, which would only cost."""
    where = f'cameras.{camera.name}'
    if camera.crop is not None:
        x, y, width, height = camera.crop
        if min(width, height) < SMALLEST or x + width > camera.width or y + height > camera.height:
            problems.append(
                f'{where}.crop is {list(camera.crop)}; x, y, width, height must lie within {camera.width} x '
                f'{camera.height} pixels and be {SMALLEST} wide and high at least'
            )
            return
    if camera.resize is not None:
        uncut = camera.crop[2:] if camera.crop else (camera.width, camera.height)
        if any(ours > theirs for ours, theirs in zip(camera.resize, uncut, strict=True)):
            problems.append(
                f'{where}.resize is {list(camera.resize)}, larger than what is there, {uncut[0]} x {uncut[1]} pixels; '
                'it can only make images smaller'
            )


def _check_layout(layout: str, count: int, problems: list[str]) -> None:
    fewest, most = CAMERA_LAYOUTS[layout]
    if not fewest <= count <= most:
        allowed = f'{fewest}' if fewest == most else f'{fewest} to {most}'
        problems.append(f'camera_layout {layout} takes {allowed} cameras, but the profile lists {count}')


def _check_names(joints: list[tuple[object, object, dict]], arms: tuple[Arm, ...], problems: list[str]) -> None:
    """Joints, channels and tools are used once; `joints` are arm, name and fields."""
    uses: dict[str, list[str]] = defaultdict(list)
    for side, name, entry in joints:
        where = f'arms.{side}.joints.{name}'
        uses[f'joint {name}'].append(where)
        channel = entry.get('channel')
        if type(channel) is int and channel in CHANNELS.get(side, ()):  # others are told as such
            uses[f'channel {channel}'].append(where)
    for arm in arms:
        if arm.end_effector:
            uses[f'tool frame {arm.end_effector.tool_frame}'].append(f'arms.{arm.side}.end_effector')
    _note_repeated(uses, problems)


def _check_topics(
    joint_states: str | None, arms: tuple[Arm, ...], cameras: tuple[Camera, ...], problems: list[str]
) -> None:
    """A topic has one use; only joint states may command several arms at once."""
    uses: dict[str, list[str]] = defaultdict(list)
    if joint_states:
        uses[joint_states].append('joint_states')
    for arm in arms:
        where = f'arms.{arm.side}'
        if arm.output and (arm.output.type != 'joint_state' or 'output (joint_state)' not in uses[arm.output.topic]):
            shared = arm.output.type == 'joint_state'
            uses[arm.output.topic].append('output (joint_state)' if shared else f'{where}.output')
        if arm.gripper and (name := arm.gripper.topic or arm.gripper.action):
            uses[name].append(f'{where}.gripper')
        if arm.end_effector:
            for kind in ('pose', 'trajectory'):
                if topic := getattr(arm.end_effector, f'{kind}_topic'):
                    uses[topic].append(f'{where}.end_effector.outputs.{kind}')
    for camera in cameras:
        uses[camera.topic].append(f'cameras.{camera.name}.image')
        uses[camera.info_topic].append(f'cameras.{camera.name}.info')
    _note_repeated({f'topic {topic}': users for topic, users in uses.items()}, problems)


def _note_repeated(uses: dict[str, list[str]], problems: list[str]) -> None:
    problems += [
        f'{what} is used more than once: {", ".join(users)}; give each one of its own'
        for what, users in uses.items()
        if len(users) > 1
    ]
