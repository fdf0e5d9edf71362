"""Records a running graph, or a teleoperated robot, into a bag."""

from launch import LaunchDescription

from lingbot_va_ros.launch_recording import record_description


def generate_launch_description() -> LaunchDescription:
    """Describe `lingbot-va record`."""
    return record_description()
