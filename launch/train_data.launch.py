"""Records a session and makes a data set of it."""

from launch import LaunchDescription

from lingbot_va_ros.launch_recording import train_data_description


def generate_launch_description() -> LaunchDescription:
    """Describe `lingbot-va record`, followed by `lingbot-va convert`."""
    return train_data_description()
