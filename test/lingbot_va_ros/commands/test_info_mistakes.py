"""A profile of one's own, written as docs/robots.md says: `lingbot-va info --robot FILE` names every mistake in it."""

import re
from pathlib import Path

import pytest

from lingbot_va_ros import cli

PAGE = Path(__file__).resolve().parents[3] / 'docs' / 'robots.md'
EXAMPLE = PAGE.read_text().split('\n## From a URDF to a profile\n')[1].split('\n## ')[0]
URDF, PROFILE = (re.search(rf'```{kind}\n(.*?)```', EXAMPLE, re.DOTALL)[1] for kind in ('xml', 'yaml'))
LEFT = 'arms.left.joints'
# What is written in place of what (its first occurrence), and the line that names place, value and remedy.
MISTAKES = [
    ('name: two_arms\n', '', 'profile: missing name; the fields are name, description, rates,'),
    ('camera_layout:', 'camera_layuot:', 'profile: missing camera_layout; unknown camera_layuot; the fields are name,'),
    ('control_hz: 50.0', 'control_hz: fast', "rates.control_hz is 'fast'; it must be a finite number above 0"),
    ('video_hz: 12.5', 'video_hz: 15.0', 'rates: control_hz 50 is not a whole multiple of video_hz 15 (ratio 3.33'),
    ('urdf: two_arms', 'urdf: one_arm', "kinematics.urdf: 'one_arm.urdf' was not found: no file "),
    ('{urdf: two_arms.urdf}', '{}', 'kinematics has no file; give one of urdf, mjcf'),
    (': joint_states', ': joint states', "joint_states is 'joint states'; it must be a ROS name: letters, digits,"),
    ('  left:', '  centre:', 'arms.centre is unknown; name arms left and right'),
    ('type: joint_trajectory', 'type: pwm', "arms.left.output.type is 'pwm'; it must be one of joint_trajectory, joi"),
    ('topic: l_arm_controller/joint_trajectory', 'topic: 1/arm', "arms.left.output.topic is '1/arm'; it must be a ROS"),
    (', topic: l_arm_controller/joint_trajectory', '', 'arms.left.output: missing topic; the fields are type, topic,'),
    ('channel: 14', 'channel: 4', f'{LEFT}.l_shoulder.channel is 4; joints of the left arm have the channels (14, 15,'),
    ('channel: 16', 'channel: 15', f'channel 15 is used more than once: {LEFT}.l_elbow, {LEFT}.l_wrist; give each one'),
    ('channel: 16, ', '', 'arms.left: l_wrist has no channel; give it one, or an end_effector with in_act'),
    ('lower: 0.0, upper: 2.4', 'lower: 2.4, upper: 0.0', f'{LEFT}.l_elbow: lower 2.4 is not below upper 0.0'),
    ('upper: 2.4', 'upper: 2.6', f'{LEFT}.l_elbow.upper is 2.6, but two_arms.urdf allows 2.4; a profile can only ti'),
    ('velocity: 0.1', 'velocity: 0.4', f'{LEFT}.l_grip.velocity is 0.4, but two_arms.urdf allows 0.2; a profile can'),
    ('velocity: 2.0', 'velocity: 0', f'{LEFT}.l_shoulder.velocity is 0; it must be a finite number above 0'),
    (', acceleration: 8.0', '', f'{LEFT}.l_shoulder: missing acceleration; the fields are lower, upper, velocity,'),
    ('home: 1.2', 'home: 2.39', f'{LEFT}.l_elbow.home is 2.39, outside [0.02, 2.38]'),
    ('margin: 0.02', 'margin: 2', f'{LEFT}.l_shoulder.margin is 2.0; it must be below half of the range, 2'),
    ('l_shoulder:', 'l_sholder:', 'two_arms.urdf has no joint l_sholder; its joints are l_shoulder, l_elbow, l_wris'),
    ('l_elbow:', 'l_shoulder:', 'the name l_shoulder is used more than once'),
    ('type: gripper_command, ', '', 'arms.left.gripper: missing type; the fields are type, topic, action,'),
    ('tool_frame: l_hand', 'tool_frame: l_palm', 'two_arms.urdf has no body, link or site l_palm; its bodies are worl'),
    ('base_frame: torso', 'base_frame: l_hand', 'arms.left.end_effector: tool_frame and base_frame are both l_hand; '),
    ('[0.1, 0.0, 0.0]', '[0.1]', 'arms.left.end_effector.tool_offset is [0.1]; it must be a list of 3 or 7 finite nu'),
    ('in_action: false', 'in_action: maybe', "arms.left.end_effector.in_action is 'maybe'; it must be true or false"),
    ('upper: [0.8, 0.9', 'upper: [0.0, 0.9', 'arms.left.workspace: x of lower, 0.1, is not below that of upper, 0.0'),
    ('layout: width', 'layout: tshape', 'camera_layout tshape takes 3 cameras, but the profile lists 2'),
    ('width: 640', 'width: 8000', 'cameras.head.width is 8000; it must be a whole number from 16 to 4096'),
    ('table/image_raw', 'head/image_raw', 'topic head/image_raw is used more than once: cameras.head.image, cameras.t'),
]


def written(folder: Path, profile: str) -> Path:
    (folder / 'two_arms.urdf').write_text(URDF)
    path = folder / 'my_robot.yaml'
    path.write_text(profile)
    return path


def mistaken(profile: str, right: str, wrong: str) -> str:
    assert right in profile
    return profile.replace(right, wrong, 1)


def test_the_profile_of_the_page_is_right(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['info', '--robot', str(written(tmp_path, PROFILE))]) == 0
    assert 'action        8 values in the channels 14-16, 21-23, 28-29' in capsys.readouterr().out


@pytest.mark.parametrize(('right', 'wrong', 'words'), MISTAKES)
def test_a_mistake_is_named_in_one_line_with_the_file(
    right: str, wrong: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = written(tmp_path, mistaken(PROFILE, right, wrong))
    assert cli.main(['info', '--robot', str(path)]) == 2
    heading, *lines = capsys.readouterr().err.splitlines()
    assert heading.startswith(f'lingbot-va info: error: {path}: {len(lines)} mistake')
    assert any(words in line for line in lines), lines


def test_mistakes_of_all_kinds_are_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    chosen = [MISTAKES[i] for i in (1, 3, 8, 15, 17, 26, 30)]
    profile = PROFILE
    for right, wrong, _ in chosen:
        profile = mistaken(profile, right, wrong)
    assert cli.main(['info', '--robot', str(written(tmp_path, profile))]) == 2
    lines = capsys.readouterr().err.splitlines()[1:]
    assert [sum(words in line for line in lines) for _, _, words in chosen] == [1] * len(chosen)
    assert len(lines) == len(chosen)


def test_a_channel_of_joints_that_have_other_mistakes_is_named_too(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    profile = mistaken(mistaken(PROFILE, 'channel: 15, lower: 0.0', 'channel: 16, lower: low'), '-3.1', 'low')
    assert cli.main(['info', '--robot', str(written(tmp_path, profile))]) == 2
    lines = capsys.readouterr().err.splitlines()[1:]
    assert any(f'channel 16 is used more than once: {LEFT}.l_elbow, {LEFT}.l_wrist' in line for line in lines), lines


def test_what_the_page_says_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    profile = mistaken(mistaken(PROFILE, 'upper: 2.4', 'upper: 2.5'), 'channel: 16', 'channel: 15')
    cli.main(['info', '--robot', str(written(tmp_path, profile))])
    lines = capsys.readouterr().err.splitlines()[1:]
    assert lines and all(f'\n{line}\n' in EXAMPLE for line in lines)
