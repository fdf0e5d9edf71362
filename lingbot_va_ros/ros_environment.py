"""The environment variables under which our processes talk to each other."""

import os

from lingbot_va_core.resources import share_dir

BOOTSTRAP_GUARD = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'
PROFILE_VARIABLE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
DEFAULT_PROFILE = 'fastdds.xml'


def apply_ros_defaults() -> None:
    """Complete this process's environment, before the first rclpy context; what the user has set stays.

    Shared-memory segments that hold an image, discovery on this machine only, and one thread for each numeric library
    in each process (the graph is parallel already).
    """
    defaults = {
        PROFILE_VARIABLE: profile_path(DEFAULT_PROFILE),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'OMP_NUM_THREADS': '1',
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def profile_path(name: str) -> str:
    """Return the path of a DDS profile in `config/`."""
    return str(share_dir() / 'config' / name)


def dds_environment(dds_profile: str = DEFAULT_PROFILE) -> dict[str, str]:
    """Return the variable that names a DDS profile in `config/`, unless the user has named a file."""
    return {PROFILE_VARIABLE: os.environ.get(PROFILE_VARIABLE, profile_path(dds_profile))}


def child_environment(import_path: list[str], dds_profile: str = DEFAULT_PROFILE) -> dict[str, str]:
    """Return the environment of a node process that imports from the same folders as this one.

    `dds_profile` is a file in `config/`; it gives way to a file that the user has named in the environment.
    """
    environment = dict(os.environ)
    # The ROS wheels set LD_LIBRARY_PATH once and leave a guard. A child that got the guard without the path could not
    # load rclpy; without the guard it finds the path itself.
    environment.pop(BOOTSTRAP_GUARD, None)
    environment['PYTHONPATH'] = os.pathsep.join(path for path in import_path if path)
    environment['PYTHONUNBUFFERED'] = '1'
    if environment.get(PROFILE_VARIABLE) == profile_path(DEFAULT_PROFILE):
        environment[PROFILE_VARIABLE] = profile_path(dds_profile)
    return environment
