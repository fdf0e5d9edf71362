"""A profile against its URDF: what is missing there, and limits that are looser."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lingbot_va_core.description_check import description_problems
from lingbot_va_core.robot import load_profile, profile_path

URDF = """
<robot name="r">
  <link name="base"/><link name="upper"/><link name="hand"/><link name="finger"/>
  <joint name="shoulder" type="revolute">
    <parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" velocity="2" effort="1"/>
  </joint>
  <joint name="elbow" type="continuous"><parent link="upper"/><child link="hand"/><axis xyz="0 1 0"/></joint>
  <joint name="grip" type="prismatic">
    <parent link="hand"/><child link="finger"/><axis xyz="1 0 0"/>
    <limit lower="0" upper="0.04" velocity="1" effort="1"/>
  </joint>
</robot>
"""
ROOM = {'lower': -1.0, 'upper': 1.0, 'velocity': 2.0, 'acceleration': 9.0, 'home': 0.0}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / 'robot.urdf').write_text(URDF)
    joints = {
        'left_shoulder': {'channel': 14, **ROOM},
        'elbow': {'channel': 15, **ROOM, 'lower': -9.0, 'velocity': 9.0},  # its own are unlimited
        'grip': {'channel': 28, **ROOM, 'lower': 0.0, 'upper': 0.04, 'velocity': 1.0},
    }
    tool = {'tool_frame': 'hand', 'base_frame': 'base', 'in_action': False, 'outputs': {'pose': 'pose'}}
    output = {'type': 'joint_group', 'topic': 'commands'}
    profile = yaml.safe_load(profile_path('aloha').read_text())
    profile['arms'] = {'left': {'joints': joints, 'output': output, 'end_effector': tool}}
    profile['kinematics'] = {'urdf': 'robot.urdf', 'joints': {'left_shoulder': 'shoulder'}}
    return profile


def problems(folder: Path, document: dict[str, Any]) -> list[str]:
    path = folder / 'robot.yaml'
    path.write_text(yaml.safe_dump(document))
    return description_problems(load_profile(str(path)))


def test_equal_and_tighter_limits_are_fine(tmp_path: Path, document: dict[str, Any]) -> None:
    assert problems(tmp_path, document) == []
    document['arms']['left']['joints']['left_shoulder'] |= {'lower': -0.5, 'upper': 0.5, 'velocity': 0.1}
    assert problems(tmp_path, document) == []


def test_every_looser_limit_is_named_with_both_values(tmp_path: Path, document: dict[str, Any]) -> None:
    joints = document['arms']['left']['joints']
    joints['left_shoulder'] |= {'lower': -1.2, 'upper': 1.5, 'velocity': 3.0}
    joints['grip']['upper'] = 0.05
    assert problems(tmp_path, document) == [
        f'arms.left.joints.{name}.{field} is {ours}, but robot.urdf allows {theirs}; a profile can only tighten it'
        for name, field, ours, theirs in (
            ('left_shoulder', 'lower', '-1.2', '-1'),
            ('left_shoulder', 'upper', '1.5', '1'),
            ('left_shoulder', 'velocity', '3', '2'),
            ('grip', 'upper', '0.05', '0.04'),
        )
    ]


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('tool_frame', 'claw', 'robot.urdf has no body, link or site claw; its bodies are'),
        ('base_frame', 'upper', 'base frame upper moves with the joints of the arm'),
    ],
)
def test_frames_that_do_not_serve_are_named(
    tmp_path: Path, document: dict[str, Any], field: str, value: str, message: str
) -> None:
    document['arms']['left']['end_effector'][field] = value
    (problem,) = problems(tmp_path, document)
    assert problem.startswith('arms.left: ') and message in problem


def test_a_joint_that_the_description_lacks_is_named_once(tmp_path: Path, document: dict[str, Any]) -> None:
    del document['kinematics']['joints']
    (problem,) = problems(tmp_path, document)
    assert 'robot.urdf has no joint left_shoulder; its joints are shoulder, elbow, grip' in problem


def test_a_gripper_may_be_missing_there(tmp_path: Path, document: dict[str, Any]) -> None:
    joints = document['arms']['left']['joints']
    joints['claw'] = joints.pop('grip')
    assert problems(tmp_path, document) == []


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / 'robot.urdf').write_text('<robot')
    assert ['robot.urdf cannot be read' in problem for problem in problems(tmp_path, document)] == [True]
    (tmp_path / 'robot.urdf').unlink()
    (problem,) = problems(tmp_path, document)
    assert problem.startswith("kinematics.urdf: 'robot.urdf' was not found: no file ")
