"""Brings the graph up with two arms in Isaac Sim."""

from launch import LaunchDescription

from lingbot_va_ros.launch_simulators import isaac_description


def generate_launch_description() -> LaunchDescription:
    """Describe the nodes of a real robot, and Isaac Sim if it is to be started."""
    return isaac_description()
