"""Gazebo and Isaac Sim beside the graph, as `launch` actions. Only for a ROS machine."""

import shlex
from collections.abc import Callable

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import ExecuteProcess, IncludeLaunchDescription, Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import Command, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from lingbot_va_ros.launch_arguments import GAZEBO, ISAAC, graph_arguments
from lingbot_va_ros.launch_graph import described, graph_actions
from lingbot_va_ros.ros_environment import dds_environment
from lingbot_va_ros.simulator_commands import (
    GAZEBO_HARDWARE,
    TOPIC_HARDWARE,
    config_file,
    gazebo_arguments,
    isaac_command,
    spawner_arguments,
    with_controllers,
    xacro_command,
)


def gazebo_description() -> LaunchDescription:
    """Describe Gazebo with two arms at a table, its bridge and controllers, and the graph that drives them."""
    arguments = (*GAZEBO, *graph_arguments(False, robot='gazebo', use_sim_time='true'))
    return described(arguments, lambda values: [*_gazebo(values), *graph_actions(False, values)])


def isaac_description() -> LaunchDescription:
    """Describe the graph that drives two arms in Isaac Sim, and Isaac Sim if it is to be started."""
    arguments = (*ISAAC, *graph_arguments(False, robot='isaac', use_sim_time='true'))
    return described(arguments, lambda values: [*_isaac(values), *graph_actions(False, values)])


def _gazebo(values: dict[str, str]) -> list[Action]:
    simulator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare('ros_gz_sim'), 'launch', 'gz_sim.launch.py'])
        ),
        launch_arguments={'gz_args': gazebo_arguments(values), 'on_exit_shutdown': 'true'}.items(),
    )
    create = Node(
        package='ros_gz_sim',
        executable='create',
        namespace=values['namespace'],
        arguments=['-topic', 'robot_description', '-name', 'two_arms'],
        output='screen',
        on_exit=_if_failed('the arms could not be placed in Gazebo'),
    )
    bridge = Node(
        package='ros_gz_bridge',
        executable='parameter_bridge',
        namespace=values['namespace'],
        parameters=[{'config_file': str(config_file('bridge.yaml'))}],
        output='screen',
        additional_env=dds_environment(),
        on_exit=[Shutdown(reason='the bridge to Gazebo has ended')],
    )
    return [simulator, _state_publisher(values, GAZEBO_HARDWARE), create, bridge, _spawner(values)]


def _isaac(values: dict[str, str]) -> list[Action]:
    actions: list[Action] = []
    if command := isaac_command(values):
        ended = [Shutdown(reason='Isaac Sim has ended')]
        actions.append(ExecuteProcess(cmd=command, output='screen', additional_env=dds_environment(), on_exit=ended))
    if with_controllers(values):
        manager = Node(
            package='controller_manager',
            executable='ros2_control_node',
            namespace=values['namespace'],
            parameters=[str(config_file('controllers.yaml')), {'use_sim_time': True}],
            output='screen',
            on_exit=[Shutdown(reason='the controllers have ended')],
        )
        actions += [_state_publisher(values, TOPIC_HARDWARE), manager, _spawner(values)]
    return actions


def _state_publisher(values: dict[str, str], hardware: str) -> Node:
    description = ParameterValue(Command(shlex.join(xacro_command(values, hardware))), value_type=str)
    return Node(
        package='robot_state_publisher',
        executable='robot_state_publisher',
        namespace=values['namespace'],
        parameters=[{'robot_description': description, 'use_sim_time': True}],
        on_exit=[Shutdown(reason='robot_state_publisher has ended')],
    )


def _spawner(values: dict[str, str]) -> Node:
    return Node(
        package='controller_manager',
        executable='spawner',
        arguments=spawner_arguments(values),
        output='screen',
        on_exit=_if_failed('the controllers could not be started'),
    )


def _if_failed(reason: str) -> Callable[[ProcessExited, LaunchContext], list[Action] | None]:
    """End the launch when a program that ends by itself has failed."""

    def ended(event: ProcessExited, context: LaunchContext) -> list[Action] | None:
        if event.returncode == 0 or context.is_shutdown:
            return None
        return [Shutdown(reason=f'{reason}; its log says why')]

    return ended
