"""What is run beside the graph for Gazebo and Isaac Sim, given the arguments of the launch files. Needs no ROS."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from lingbot_va_core.resources import share_dir
from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_ros.launch_arguments import is_true

GAZEBO_HARDWARE = 'gz_ros2_control/GazeboSimSystem'
TOPIC_HARDWARE = 'joint_state_topic_hardware_interface/JointStateTopicSystem'
CONTROLLERS_WITHIN_S = '120'
JOINT_STATE = 'joint_state'  # a type of output


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


def with_controllers(values: Mapping[str, str]) -> bool:
    """Say whether trajectory controllers stand before Isaac Sim.

    Raises:
        ValueError: the arms of the profile do not speak to any.
    """
    if not is_true('ros2_control', values['ros2_control']):
        return False
    robot = values['robot']
    outputs = [arm.output for arm in load_profile(robot).arms] if robot else []
    if any(output is not None and output.type == JOINT_STATE for output in outputs):
        raise ValueError(
            f"ros2_control is true, but the profile '{robot}' sends commands as {JOINT_STATE}, to which no controller "
            'listens; say robot:=gazebo'
        )
    return True


def isaac_command(values: Mapping[str, str]) -> list[str]:
    """Return the command that runs Isaac Sim with its bridge; none if Isaac Sim runs already.

    Raises:
        ValueError: no stage was named, or ros2_control does not go with the profile.
    """
    if not values['isaac_python']:
        return []
    if not values['stage']:
        raise ValueError('name the USD file with the robot: stage:=FILE')
    command = [values['isaac_python'], str(share_dir() / 'tools' / 'isaac_bridge.py'), '--stage', values['stage']]
    command += ['--robot', str(profile_path(values['robot'])), '--articulation', values['articulation']]
    command += [f'--namespace={values["namespace"]}', '--cameras', *values['cameras'].split()]
    flags = {'--ros2-control': with_controllers(values), '--headless': is_true('headless', values['headless'])}
    return command + [option for option, given in flags.items() if given]
