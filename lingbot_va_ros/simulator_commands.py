"""What is run beside the graph for Gazebo and Isaac Sim, given the arguments of the launch files. Needs no ROS."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot import profile_path
from lingbot_va_ros.launch_arguments import is_true

GAZEBO_HARDWARE = 'gz_ros2_control/GazeboSimSystem'
TOPIC_HARDWARE = 'joint_state_topic_hardware_interface/JointStateTopicSystem'
CONTROLLERS_WITHIN_S = '120'


def config_file(name: str) -> Path:
    """Return a file of `config/gazebo`."""
    return share_dir() / 'config' / 'gazebo' / name


def gazebo_arguments(values: Mapping[str, str]) -> str:
    """Return the arguments of `gz sim`: run at once, with or without a window."""
    options = '-r -s --headless-rendering' if is_true('headless', values['headless']) else '-r'
    return f'{options} {values["world"] or config_file("two_arms.sdf")}'


def xacro_command(values: Mapping[str, str], hardware: str) -> list[str]:
    """Return the command that prints the URDF of the two arms, their joints behind a plugin of ros2_control."""
    return [
        'xacro', str(config_file('two_arms.urdf.xacro')), f'hardware:={hardware}',
        f'controllers:={config_file("controllers.yaml")}', f'namespace:=/{values["namespace"].strip("/")}',
    ]  # fmt: skip


def spawner_arguments(values: Mapping[str, str]) -> list[str]:
    """Return the arguments of `spawner`, which starts all controllers once their manager is there."""
    file = config_file('controllers.yaml')
    document = yaml.safe_load(file.read_text())
    parameters = document['/**/controller_manager']['ros__parameters']
    controllers = [name for name, value in parameters.items() if isinstance(value, dict)]
    manager = '/'.join(['', *filter(None, [values['namespace'].strip('/'), 'controller_manager'])])
    return [
        *controllers, '--param-file', str(file), '--controller-manager', manager,
        '--controller-manager-timeout', CONTROLLERS_WITHIN_S,
    ]  # fmt: skip


def isaac_command(values: Mapping[str, str]) -> list[str]:
    """Return the command that runs Isaac Sim with its bridge; none if Isaac Sim runs already.

    Raises:
        ValueError: no stage was named.
    """
    if not values['isaac_python']:
        return []
    if not values['stage']:
        raise ValueError('name the USD file with the robot: stage:=FILE')
    command = [values['isaac_python'], str(share_dir() / 'tools' / 'isaac_bridge.py'), '--stage', values['stage']]
    command += ['--robot', str(profile_path(values['robot'])), '--articulation', values['articulation']]
    command += [f'--namespace={values["namespace"]}', '--cameras', *values['cameras'].split()]
    flags = {'ros2_control': '--ros2-control', 'headless': '--headless'}
    return command + [option for name, option in flags.items() if is_true(name, values[name])]
