"""Brings the graph up beside a real robot: action, perception and world model."""

from launch import LaunchDescription

from lingbot_va_ros.launch_graph import graph_description


def generate_launch_description() -> LaunchDescription:
    """Describe the nodes of `lingbot_va_ros/node_table.py`, brought to active in order."""
    return graph_description(simulation=False)
