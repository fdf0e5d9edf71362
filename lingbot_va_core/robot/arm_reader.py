"""Reads one arm of a robot profile: joints, outputs, gripper, end effector, workspace."""

from lingbot_va_core.robot.fields import (
    ABOVE_ZERO,
    FLAG,
    MAPPING,
    NOT_NEGATIVE,
    NUMBER,
    TEXT,
    TOPIC,
    WHOLE,
    choice,
    numbers,
    read_entries,
    read_fields,
)
from lingbot_va_core.robot.profile import (
    CHANNELS,
    GRIPPERS,
    NO_OFFSET,
    Arm,
    EndEffector,
    GripperOutput,
    Joint,
    Output,
    Workspace,
)

ARM = {'output': MAPPING, 'joints': MAPPING, 'gripper': MAPPING, 'end_effector': MAPPING, 'workspace': MAPPING}
JOINT = {'lower': NUMBER, 'upper': NUMBER, 'velocity': ABOVE_ZERO, 'acceleration': ABOVE_ZERO, 'home': NUMBER}
OUTPUT = {'type': choice('joint_trajectory', 'joint_group', 'joint_state'), 'topic': TOPIC}
GRIPPER_TARGETS = {  # what each type of gripper output needs
    'in_output': None,
    'joint_trajectory': 'topic',
    'joint_group': 'topic',
    'gripper_command': 'action',
    'parallel_gripper_command': 'action',
}
GRIPPER_OPTIONS = {'topic': TOPIC, 'action': TOPIC, 'threshold': ABOVE_ZERO, 'max_effort': NOT_NEGATIVE}
SIGNIFICANT_SHARE = 0.02  # of a gripper's range: what is worth a new goal, unless the profile has a threshold
END_EFFECTOR = {'tool_frame': TEXT, 'base_frame': TEXT, 'in_action': FLAG}
POSE_OUTPUTS = {'pose': TOPIC, 'trajectory': TOPIC}
QUATERNION_TOLERANCE = 1e-3


def read_arm(side: str, value: object, kinematics: bool, problems: list[str]) -> Arm | None:
    """Read `arms.<side>`; note what is wrong and return what is right, None where a part is missing or wrong.

    `kinematics` says whether the profile names a description of the robot.
    """
    where, before = f'arms.{side}', len(problems)
    fields = read_fields(value, where, {}, ARM, problems)
    if fields.get('joints') == {}:
        problems.append(f'{where}.joints is empty; leave it out, or list joints')
    entries = read_entries(fields.get('joints', {}), f'{where}.joints', problems)
    joints = [_joint(side, name, entry, problems) for name, entry in entries.items()]
    sound = len(problems) == before
    joints = tuple(joint for joint in joints if joint)
    gripper_joint = next((joint for joint in joints if joint.channel == GRIPPERS[side]), None)
    output = _output(f'{where}.output', fields['output'], problems) if 'output' in fields else None
    gripper = GripperOutput('in_output') if gripper_joint else None
    if 'gripper' in fields:
        gripper = _gripper(f'{where}.gripper', fields['gripper'], gripper_joint, problems) or gripper
        if sound and not gripper_joint:
            problems.append(f'{where}.gripper: no joint of this arm has the channel {GRIPPERS[side]} of its gripper')
    tool = (
        _end_effector(f'{where}.end_effector', fields['end_effector'], problems) if 'end_effector' in fields else None
    )
    box = _workspace(f'{where}.workspace', fields['workspace'], problems) if 'workspace' in fields else None
    if 'end_effector' in fields and not kinematics:
        problems.append(f'{where}.end_effector needs the description of the robot; give kinematics a urdf or mjcf')
    arm = Arm(side, joints, output, gripper, tool, box)
    if len(problems) == before:
        _check_whole(where, arm, problems)
    return arm


def _joint(side: str, name: str, value: object, problems: list[str]) -> Joint | None:
    where, before = f'arms.{side}.joints.{name}', len(problems)
    fields = read_fields(value, where, JOINT, {'channel': WHOLE, 'margin': NOT_NEGATIVE}, problems)
    channel = fields.get('channel')
    if channel is not None and channel not in CHANNELS[side]:
        problems.append(
            f'{where}.channel is {channel}; joints of the {side} arm have the channels {CHANNELS[side][:-1]}, '
            f'its gripper has {CHANNELS[side][-1]}'
        )
    lower, upper, home, margin = (fields.get(field) for field in ('lower', 'upper', 'home', 'margin'))
    if lower is not None and upper is not None:
        low, high = lower + (margin or 0.0), upper - (margin or 0.0)
        if not lower < upper:
            problems.append(f'{where}: lower {lower} is not below upper {upper}')
        elif not low < high:
            problems.append(f'{where}.margin is {margin}; it must be below half of the range, {(upper - lower) / 2:g}')
        elif home is not None and not low <= home <= high:
            problems.append(f'{where}.home is {home}, outside [{low}, {high}]')
    if len(problems) > before:
        return None
    return Joint(name, channel, *(fields[field] for field in JOINT), margin or 0.0)


def _output(where: str, value: dict, problems: list[str]) -> Output | None:
    fields = read_fields(value, where, OUTPUT, {'stamped': FLAG}, problems)
    if 'stamped' in fields and fields.get('type') != 'joint_trajectory':
        problems.append(f'{where}.stamped has a meaning for the type joint_trajectory only; remove it')
    return Output(**fields) if fields.keys() >= OUTPUT.keys() else None


def _gripper(where: str, value: dict, joint: Joint | None, problems: list[str]) -> GripperOutput | None:
    fields = read_fields(value, where, {'type': choice(*GRIPPER_TARGETS)}, GRIPPER_OPTIONS, problems)
    kind = fields.get('type')
    if kind is None:
        return None
    target = GRIPPER_TARGETS[kind]
    allowed = {'type', target, *(('threshold', 'max_effort') if target == 'action' else ())}
    if target and target not in value:
        problems.append(f'{where}: missing {target}, where {kind} is sent')
    needless = [name for name in fields if name not in allowed]
    if needless:
        problems.append(f'{where}: {", ".join(needless)} has no meaning for the type {kind}; remove it')
    if target == 'action' and joint:
        reach = joint.upper - joint.lower
        fields.setdefault('threshold', SIGNIFICANT_SHARE * reach)
        if fields['threshold'] >= reach:
            problems.append(f'{where}.threshold is {fields["threshold"]}; it must be below the range, {reach:g}')
    return GripperOutput(**fields)


def _end_effector(where: str, value: dict, problems: list[str]) -> EndEffector | None:
    options = {'tool_offset': numbers(3, 7), 'outputs': MAPPING}
    fields = read_fields(value, where, END_EFFECTOR, options, problems)
    topics = read_fields(fields.get('outputs', {}), f'{where}.outputs', {}, POSE_OUTPUTS, problems)
    offset = fields.get('tool_offset', NO_OFFSET)
    offset = (*offset, *NO_OFFSET[len(offset) :])
    length = sum(part * part for part in offset[3:]) ** 0.5
    if abs(length - 1) > QUATERNION_TOLERANCE:
        problems.append(f'{where}.tool_offset has a quaternion (x y z w) of length {length:g}; it must be 1')
    tool, base = fields.get('tool_frame'), fields.get('base_frame')
    if tool is not None and tool == base:
        problems.append(f'{where}: tool_frame and base_frame are both {tool}; a pose needs two frames')
    if not END_EFFECTOR.keys() <= fields.keys():
        return None
    return EndEffector(tool, base, fields['in_action'], offset, topics.get('pose'), topics.get('trajectory'))


def _workspace(where: str, value: dict, problems: list[str]) -> Workspace | None:
    corner = numbers(3)
    fields = read_fields(value, where, {'lower': corner, 'upper': corner}, {}, problems)
    if len(fields) < 2:
        return None
    for axis, low, high in zip('xyz', fields['lower'], fields['upper'], strict=True):
        if not low < high:
            problems.append(f'{where}: {axis} of lower, {low}, is not below that of upper, {high}')
    return Workspace(**fields)


def _check_whole(where: str, arm: Arm, problems: list[str]) -> None:
    """Note what the parts of an arm, each sound in itself, lack together."""
    tool, pose = arm.end_effector, arm.pose_in_action
    found = [joint.name for joint in arm.joints if joint.channel is None]
    if not arm.channels:
        problems.append(
            f'{where} has no channel of the action; give it joints with a channel, an end_effector with '
            'in_action: true, or both'
        )
    elif found and not pose:
        problems.append(
            f'{where}: {", ".join(found)} has no channel; give it one, or an end_effector with in_action: true from '
            'whose pose it follows'
        )
    elif 0 < len(found) < len(arm.arm_joints):
        problems.append(f'{where}: {", ".join(found)} has no channel, but others have; give all joints one, or none')
    published = tool is not None and bool(tool.pose_topic or tool.trajectory_topic)
    commanded = [joint.name for joint in arm.output_joints if joint.channel is not None or not published]
    if commanded and not arm.output:
        problems.append(f'{where}: missing output, where {commanded[0]} is commanded')
    if arm.output and not arm.output_joints:
        problems.append(f'{where}.output: there is no joint to command through it; remove it')
    if arm.workspace and not tool:
        problems.append(f'{where}.workspace limits a tool; give the arm an end_effector')
    if tool and not published:
        if pose and not arm.arm_joints:
            problems.append(f'{where}.end_effector: nothing carries its pose out; give it outputs, or the arm joints')
        if not pose and not arm.workspace:
            problems.append(f'{where}.end_effector is not in the action, not published and has no workspace; remove it')
