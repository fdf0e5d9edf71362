"""Brings the graph up with two arms in Gazebo."""

from launch import LaunchDescription

from lingbot_va_ros.launch_simulators import gazebo_description


def generate_launch_description() -> LaunchDescription:
    """Describe Gazebo, its bridge and controllers, and the nodes of a real robot."""
    return gazebo_description()
