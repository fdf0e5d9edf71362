"""`lingbot-va info --robot`: shows a profile, or names every mistake in it."""

import json
from pathlib import Path

import pytest

from lingbot_va_core.robot import load_profile, profile_path, robot_names
from lingbot_va_ros import cli


@pytest.mark.parametrize('name', robot_names())
def test_every_profile_is_shown_with_its_joints_outputs_and_cameras(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / 'robot.json'
    assert cli.main(['info', '--robot', name, '--json', str(file)]) == 0
    content, printed, profile = json.loads(file.read_text()), capsys.readouterr().out, load_profile(name)
    assert (content['valid'], content['problems'], content['name']) == (True, [], name)
    assert [value['channel'] for value in content['action_vector']] == profile.channels.tolist()
    assert content['clock'] == {'control_hz': 50.0, 'video_hz': 12.5, 'actions_per_latent': 16}
    for arm in profile.arms:
        assert f'{arm.output.type} on {arm.output.topic}' in printed
    for words in (*(joint.name for joint in profile.joints), *(camera.image_topic for camera in profile.cameras)):
        assert words in printed
    assert max(map(len, printed.splitlines())) < 140


def test_an_arm_that_is_led_by_a_pose_is_described(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, text = tmp_path / 'posed.yaml', profile_path('openarm').read_text()
    for channel in range(14, 21):
        text = text.replace(f'channel: {channel}, ', '')
    path.write_text(text.replace('in_action: false', 'in_action: true', 1))
    assert cli.main(['info', '--robot', str(path)]) == 0
    printed = capsys.readouterr().out
    assert '16 values in the channels 0-6, 21-29' in printed
    assert 'in openarm_left_base_link, in the action, joints by inverse kinematics' in printed
    assert 'in openarm_right_base_link, not in the action' in printed


def test_what_becomes_of_images_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, text = tmp_path / 'framed.yaml', profile_path('openarm').read_text()
    framing = 'height: 160, transport: compressed, rectify: true, crop: [40, 0, 160, 160], resize: [80, 80]}'
    path.write_text(text.replace('height: 160}', framing, 1))
    assert cli.main(['info', '--robot', str(path), '--json', str(tmp_path / 'robot.json')]) == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if '  cam_high ' in line)
    assert '240 x 160  cam_high/image_raw/compressed, ' in shown
    assert shown.endswith(', rectified, cut to 160 x 160 at (40, 0), resized to 80 x 80')
    assert json.loads((tmp_path / 'robot.json').read_text())['cameras'][0]['crop'] == [40, 0, 160, 160]


def test_every_mistake_is_named_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, file = tmp_path / 'wrong.yaml', tmp_path / 'robot.json'
    text = profile_path('openarm').read_text()
    for right, wrong in (
        ('channel: 14', 'channel: 4'),
        ('velocity: 3.0', 'velocity: -3.0'),
        ('video_hz: 12.5', 'video_hz: 13'),
        ('type: joint_trajectory', 'type: joint_velocity'),
        ('camera_layout: tshape', 'camera_layout: mosaic'),
        ('width: 240', 'width: 8'),
    ):
        assert right in text
        text = text.replace(right, wrong, 1)
    path.write_text(text)
    assert cli.main(['info', '--robot', str(path), '--json', str(file)]) == 2
    heading, *lines = capsys.readouterr().err.splitlines()
    assert heading == f'lingbot-va info: error: {path}: 6 mistakes'
    content = json.loads(file.read_text())
    assert (content['valid'], content['problems']) == (False, [line.strip() for line in lines])
    for words in ('channel is 4', 'velocity is -3.0', 'video_hz 13', "'joint_velocity'", "'mosaic'", 'width is 8'):
        assert sum(words in line for line in lines) == 1, words


def test_limits_that_are_looser_than_the_description_are_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / 'loose.yaml'
    path.write_text(profile_path('openarm').read_text().replace('upper: 2.44346', 'upper: 2.6'))
    assert cli.main(['info', '--robot', str(path)]) == 2
    heading, *lines = capsys.readouterr().err.splitlines()
    assert heading.endswith('loose.yaml: 2 mistakes')
    assert lines[0].strip() == (
        'arms.left.joints.openarm_left_joint4.upper is 2.6, but openarm_bimanual.xml allows 2.4435; a profile can only '
        'tighten it'
    )


def test_a_robot_that_there_is_not_is_refused_with_those_there_are(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['info', '--robot', 'puma']) == 2
    assert "robot 'puma' is unknown; choose one of aloha, franka_dual" in capsys.readouterr().err
