"""The environment variables under which our processes talk to each other."""

import os

from lingbot_va_core.resources import share_dir

BOOTSTRAP_GUARD = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'


def apply_ros_defaults() -> None:
    """Complete this process's environment, before the first rclpy context; what the user has set stays.

    Shared-memory segments that hold an image, discovery on this machine only, and one thread for each numeric library
    in each process (the graph is parallel already).
    """
    profile = str(share_dir() / 'config' / 'fastdds.xml')
    defaults = {
        'FASTRTPS_DEFAULT_PROFILES_FILE': profile,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'OMP_NUM_THREADS': '1',
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def child_environment(import_path: list[str]) -> dict[str, str]:
    """Return the environment of a node process that imports from the same folders as this one."""
    environment = dict(os.environ)
    # The ROS wheels set LD_LIBRARY_PATH once and leave a guard. A child that got the guard without the path could not
    # load rclpy; without the guard it finds the path itself.
    environment.pop(BOOTSTRAP_GUARD, None)
    environment['PYTHONPATH'] = os.pathsep.join(path for path in import_path if path)
    environment['PYTHONUNBUFFERED'] = '1'
    return environment
