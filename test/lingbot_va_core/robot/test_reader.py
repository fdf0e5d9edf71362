"""Reading robot profiles: what is refused, and that every mistake is named."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lingbot_va_core.description_check import description_problems
from lingbot_va_core.robot import (
    EndEffector,
    GripperOutput,
    ProfileError,
    RobotProfile,
    Workspace,
    load_profile,
    parse_profile,
    profile_path,
    robot_names,
)

ALOHA = profile_path('aloha').read_text()
LIMITS = {'lower': -3.0, 'upper': 3.0, 'velocity': 3.0, 'acceleration': 20.0, 'home': 0.5}
CAMERA = {'image': 'c/image', 'info': 'c/info', 'frame': 'c', 'width': 64, 'height': 48}


def document() -> dict[str, Any]:
    """A profile with one of everything."""
    arms = {}
    for side, first in (('left', 14), ('right', 21)):
        joints = {f'{side}_{i}': {'channel': first + i, 'margin': 0.1, **LIMITS} for i in range(3)}
        joints[f'{side}_gripper'] = {'channel': 28 if side == 'left' else 29, **LIMITS}
        arms[side] = {
            'output': {'type': 'joint_group', 'topic': f'{side}/commands'},
            'joints': joints,
            'gripper': {'type': 'gripper_command', 'action': f'{side}/gripper'},
            'end_effector': {
                'tool_frame': f'{side}_tool',
                'base_frame': 'base',
                'tool_offset': [0.0, 0.0, 0.1],
                'in_action': True,
                'outputs': {'pose': f'{side}/pose', 'trajectory': f'{side}/poses'},
            },
            'workspace': {'lower': [0.0, -0.5, 0.0], 'upper': [0.5, 0.5, 0.5]},
        }
    return {
        'name': 'test',
        'description': 'A robot of the tests.',
        'rates': {'control_hz': 50, 'video_hz': 12.5},
        'kinematics': {'urdf': 'robot.urdf', 'joints': {'left_0': 'shoulder'}},
        'joint_states': 'joint_states',
        'arms': arms,
        'camera_layout': 'width',
        'cameras': {'head': dict(CAMERA)},
    }


def parse(profile: object) -> RobotProfile:
    return parse_profile(yaml.safe_dump(profile, sort_keys=False), 'test.yaml')


def test_everything_that_a_profile_can_say_is_read() -> None:
    profile = parse(document())
    left, right = profile.arms
    assert left.end_effector == EndEffector(
        'left_tool', 'base', True, (0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.0), 'left/pose', 'left/poses'
    )
    assert left.gripper == GripperOutput('gripper_command', action='left/gripper', threshold=0.12)
    assert right.workspace == Workspace((0.0, -0.5, 0.0), (0.5, 0.5, 0.5))
    assert [joint.name for joint in right.output_joints] == ['right_0', 'right_1', 'right_2']
    assert profile.limits('margin').tolist() == [0.1, 0.1, 0.1, 0.0] * 2
    assert profile.kinematics.format == 'urdf'
    assert (profile.kinematics.joint_name('left_0'), profile.kinematics.joint_name('left_1')) == ('shoulder', 'left_1')


def test_cameras_say_what_of_their_images_becomes_data() -> None:
    changed = document()
    changed['cameras']['head'] |= {'width': 640, 'height': 480}
    [plain] = parse(changed).cameras
    assert (plain.topic, plain.view_size) == (plain.image_topic, (640, 480))
    changed['cameras']['head'] |= {'rectify': True, 'crop': [80, 0, 480, 480], 'transport': 'compressed'}
    [cut] = parse(changed).cameras
    assert (cut.topic, cut.rectify, cut.crop) == (f'{cut.image_topic}/compressed', True, (80, 0, 480, 480))
    assert cut.view_size == (480, 480)
    changed['cameras']['head']['resize'] = [240, 240]
    assert parse(changed).cameras[0].view_size == (240, 240)


def put(path: str, value: object) -> Callable[[dict], None]:
    """A change of the field at a dotted path."""

    def change(profile: dict) -> None:
        *parents, last = path.split('.')
        for name in parents:
            profile = profile[name]
        profile[last] = value

    return change


def drop(path: str) -> Callable[[dict], None]:
    def change(profile: dict) -> None:
        *parents, last = path.split('.')
        for name in parents:
            profile = profile[name]
        del profile[last]

    return change


def both(*changes: Callable[[dict], None]) -> Callable[[dict], None]:
    def change(profile: dict) -> None:
        for each in changes:
            each(profile)

    return change


JOINT = 'arms.left.joints.left_0'
TOOL = 'arms.left.end_effector'
MISTAKES = {
    'top level': (drop('name'), 'profile: missing name; the fields are name, description'),
    'typo': (put('camera_layuot', 'width'), 'profile: unknown camera_layuot; the fields are'),
    'no text': (put('description', 7), 'description is 7; it must be a text'),
    'rate of zero': (put('rates.control_hz', 0), 'rates.control_hz is 0; it must be a finite number above 0'),
    'rates do not divide': (put('rates.video_hz', 13), 'rates: control_hz 50 is not a whole multiple of video_hz 13'),
    'no arm': (both(put('arms', {}), drop('kinematics.joints')), 'arms is empty; name at least one of left, right'),
    'third arm': (put('arms.middle', {}), 'arms.middle is unknown; name arms left and right'),
    'stamps where none go': (
        put('arms.left.output', {'type': 'joint_group', 'topic': 'a', 'stamped': True}),
        'arms.left.output.stamped has a meaning for the type joint_trajectory only; remove it',
    ),
    'old field': (put('arms.left.trajectory', 'a'), 'arms.left: unknown trajectory; the fields are output, joints,'),
    'joints no mapping': (put('arms.right.joints', ['a']), r"arms.right.joints is \['a'\]; it must be a mapping"),
    'no joints': (put('arms.right.joints', {}), 'arms.right.joints is empty'),
    'joint name': (lambda profile: profile['arms']['left']['joints'].update({1: LIMITS}), 'has the name 1; a name'),
    'wrong channel': (put(f'{JOINT}.channel', 3), r'left_0.channel is 3; joints of the left arm .* 20\), .* has 28'),
    'other side': (put(f'{JOINT}.channel', 21), 'left_0.channel is 21; joints of the left arm'),
    'channel no integer': (put(f'{JOINT}.channel', 14.5), 'left_0.channel is 14.5; it must be a whole number'),
    'channel twice': (put('arms.left.joints.left_1.channel', 14), 'channel 14 is used .*left_0, .*left_1; give'),
    'joint twice': (
        put('arms.right.joints.left_0', {'channel': 26, **LIMITS}),
        'joint left_0 is used more than once',
    ),
    'some without channel': (drop(f'{JOINT}.channel'), 'left_0 has no channel, but others have; give all joints'),
    'range': (put(f'{JOINT}.lower', 3.0), r'left_0: lower 3.0 is not below upper 3.0'),
    'home': (put(f'{JOINT}.home', 2.95), r'left_0.home is 2.95, outside \[-2.9, 2.9\]'),
    'margin': (put(f'{JOINT}.margin', 3.0), 'left_0.margin is 3.0; it must be below half of the range, 3'),
    'velocity': (put(f'{JOINT}.velocity', -1), 'left_0.velocity is -1; it must be a finite number above 0'),
    'infinity': (put(f'{JOINT}.upper', float('inf')), 'left_0.upper is inf; it must be a finite number'),
    'number as text': (put(f'{JOINT}.upper', '1e3'), "left_0.upper is '1e3'; it must be a finite number"),
    'output type': (
        put('arms.left.output.type', 'pwm'),
        "arms.left.output.type is 'pwm'; it must be one of joint_trajectory, joint_group, joint_state",
    ),
    'no output': (drop('arms.left.output'), 'arms.left: missing output, where left_0 is commanded'),
    'topic': (put('arms.left.output.topic', 'left arm'), "arms.left.output.topic is 'left arm'; it must be a ROS name"),
    'output to itself': (
        put('joint_states', 'left/commands'),
        'topic left/commands is used more than once: joint_states, arms.left.output',
    ),
    'gripper type': (put('arms.left.gripper.type', 'magnet'), "arms.left.gripper.type is 'magnet'; it must be one o"),
    'gripper without action': (drop('arms.left.gripper.action'), 'arms.left.gripper: missing action, where gripper_'),
    'gripper topic': (put('arms.left.gripper.topic', 'a'), 'topic has no meaning for the type gripper_command; remo'),
    'gripper threshold': (put('arms.left.gripper.threshold', 6.0), 'gripper.threshold is 6.0; it must be below the'),
    'no gripper': (drop('arms.left.joints.left_gripper'), 'arms.left.gripper: no joint of this arm has the channel 28'),
    'tool no mapping': (put(TOOL, 'tool'), "arms.left.end_effector is 'tool'; it must be a mapping"),
    'tool without base': (drop(f'{TOOL}.base_frame'), 'arms.left.end_effector: missing base_frame; the fields are t'),
    'one frame': (put(f'{TOOL}.base_frame', 'left_tool'), 'tool_frame and base_frame are both left_tool'),
    'empty frame': (put(f'{TOOL}.tool_frame', ''), "end_effector.tool_frame is ''; it must be a text that is not em"),
    'tool twice': (put(f'{TOOL}.tool_frame', 'right_tool'), 'tool frame right_tool is used more than once'),
    'offset': (put(f'{TOOL}.tool_offset', [0, 0]), r'tool_offset is \[0, 0\]; it must be a list of 3 or 7 finite nu'),
    'turn': (put(f'{TOOL}.tool_offset', [0] * 7), 'tool_offset has a quaternion .x y z w. of length 0; it must be 1'),
    'no use': (
        both(put(f'{TOOL}.in_action', False), put(f'{TOOL}.outputs', {}), drop('arms.left.workspace')),
        'arms.left.end_effector is not in the action, not published and has no workspace; remove it',
    ),
    'nobody moves the tool': (
        both(
            put('arms.left', {'end_effector': {'tool_frame': 'a', 'base_frame': 'b', 'in_action': True}}),
            drop('kinematics.joints'),
        ),
        'arms.left.end_effector: nothing carries its pose out; give it outputs, or the arm joints',
    ),
    'no channel at all': (
        both(put('arms.left', {}), drop('kinematics.joints')),
        'arms.left has no channel of the action; give it joints with a channel, an end_effector',
    ),
    'box': (put('arms.left.workspace.upper', [0.5, -0.5, 0.5]), 'workspace: y of lower, -0.5, is not below that of'),
    'box without tool': (drop(TOOL), 'arms.left.workspace limits a tool; give the arm an end_effector'),
    'no description': (drop('kinematics'), 'arms.left.end_effector needs the description of the robot; give kinemat'),
    'two descriptions': (put('kinematics.mjcf', 'a.xml'), 'kinematics has urdf and mjcf; give one of urdf, mjcf'),
    'unknown joint there': (put('kinematics.joints.tail', 'a'), 'kinematics.joints names tail, which no arm has'),
    'layout': (put('camera_layout', 'mosaic'), "camera_layout is 'mosaic'; it must be one of width, tshape"),
    'too few cameras': (put('camera_layout', 'tshape'), 'camera_layout tshape takes 3 cameras, but the profile list'),
    'tiny camera': (put('cameras.head.width', 4), 'cameras.head.width is 4; it must be a whole number from 16 to 4096'),
    'crop outside': (put('cameras.head.crop', [600, 0, 100, 100]), r'head.crop is \[600, 0, 100, 100\]; x, y, width'),
    'crop too small': (put('cameras.head.crop', [0, 0, 8, 100]), 'must lie within 64 x 48 pixels and be 16 wide an'),
    'crop of floats': (put('cameras.head.crop', [0, 0, 20.5, 100]), 'it must be a list of 4 whole numbers: x, y, widt'),
    'larger': (put('cameras.head.resize', [1280, 480]), r'resize is \[1280, 480\], larger than what is there, 64 x'),
    'transport': (put('cameras.head.transport', 'theora'), "transport is 'theora'; it must be one of raw, compressed"),
    'image twice': (put('cameras.back', dict(CAMERA)), 'topic c/image is used more than once: cameras.head.image, c'),
}  # fmt: skip


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_named_with_its_place_value_and_what_is_allowed(name: str) -> None:
    change, message = MISTAKES[name]
    profile = document()
    change(profile)
    with pytest.raises(ProfileError, match=message) as caught:
        parse(profile)
    assert str(caught.value).startswith('test.yaml: ')
    assert '\n' not in str(caught.value)
    assert len(caught.value.problems) == (2 if name in ('image twice', 'no description') else 1)  # of each arm, camera


def test_all_mistakes_are_named_at_once() -> None:
    names = ('typo', 'rates do not divide', 'wrong channel', 'velocity', 'output type', 'gripper type', 'turn', 'box',
             'layout', 'tiny camera', 'two descriptions')  # fmt: skip
    profile = copy.deepcopy(document())
    for name in names:
        MISTAKES[name][0](profile)
    with pytest.raises(ProfileError, match=rf'^test.yaml: {len(names)} mistakes: \(1\) .*\({len(names)}\) ') as caught:
        parse(profile)
    assert len(caught.value.problems) == len(names)
    for name in names:
        with pytest.raises(ProfileError, match=MISTAKES[name][1]):
            raise caught.value


def test_an_arm_that_is_commanded_by_its_pose_needs_no_output_for_joints() -> None:
    profile = document()
    left = profile['arms']['left']
    del left['output']
    for name in ('left_0', 'left_1', 'left_2'):
        del left['joints'][name]['channel']
    arm = parse(profile).arms[0]
    assert arm.output is None and arm.needs_ik and arm.channels == (*range(7), 28)
    del left['end_effector']['outputs']
    with pytest.raises(ProfileError, match='missing output, where left_0 is commanded'):
        parse(profile)


def test_arms_may_share_a_topic_of_joint_states_and_no_other() -> None:
    profile = document()
    for side in ('left', 'right'):
        profile['arms'][side]['output'] = {'type': 'joint_state', 'topic': 'joint_command'}
    assert [arm.output.topic for arm in parse(profile).arms] == ['joint_command'] * 2
    for side in ('left', 'right'):
        profile['arms'][side]['output']['type'] = 'joint_group'
    with pytest.raises(ProfileError, match='topic joint_command is used more than once: arms'):
        parse(profile)


@pytest.mark.parametrize('text', ['', '- a\n', 'profile\n', 'name: [\n', 'a: 2026-99-99\n', '{[1]: 2}\n'])
def test_what_is_no_profile_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ProfileError, match=r'^test.yaml') as caught:
        parse_profile(text, 'test.yaml')
    assert '\n' not in str(caught.value)


def test_a_joint_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'twice.yaml'
    path.write_text(ALOHA.replace('left_shoulder:', 'left_waist:'))
    with pytest.raises(ProfileError, match=r'line 1\d and following: the name left_waist is used more than once'):
        load_profile(str(path))


def test_a_description_is_sought_beside_the_profile(tmp_path: Path) -> None:
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump(document()))
    kinematics = load_profile(str(path)).kinematics
    with pytest.raises(ProfileError, match=rf"'robot.urdf' was not found: no file {tmp_path}/robot.urdf"):
        _ = kinematics.path
    (tmp_path / 'robot.urdf').write_text('<robot name="r"/>')
    assert kinematics.path == tmp_path / 'robot.urdf'


@pytest.mark.parametrize('name', robot_names())
def test_every_profile_that_comes_along_is_sound(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.mask[14:].sum() == len(profile.joints)
    assert description_problems(profile) == []
