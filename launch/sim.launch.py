"""Brings the graph up with the MuJoCo simulation in place of a robot."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from lingbot_va_ros.launch_graph import graph_actions


def generate_launch_description() -> LaunchDescription:
    """Declare what a deployment sets; everything else is in the parameter files."""
    return LaunchDescription(
        [
            DeclareLaunchArgument('namespace', default_value='', description='Namespace of all nodes.'),
            DeclareLaunchArgument(
                'use_sim_time', default_value='', description='Follow /clock; empty: as in the parameter files.'
            ),
            DeclareLaunchArgument(
                'params_file', default_value='', description='Parameter file above config/lingbot_va.yaml.'
            ),
            DeclareLaunchArgument(
                'robot',
                default_value='',
                description='Robot profile, a name in config/robots or a YAML file; empty: as in the parameter files.',
            ),
            DeclareLaunchArgument(
                'task', default_value='', description='Task of the simulation; empty: as in the parameter files.'
            ),
            DeclareLaunchArgument(
                'autostart', default_value='true', description='Bring the nodes to active, in order; false: only start.'
            ),
            DeclareLaunchArgument('log_level', default_value='info', description='Log level of the nodes.'),
            OpaqueFunction(function=graph_actions, kwargs={'simulation': True}),
        ]
    )
