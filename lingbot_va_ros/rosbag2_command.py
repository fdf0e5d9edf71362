"""`ros2 bag record` for the topics of a robot: the command, and the file that tells it how to subscribe."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from rclpy.expand_topic_name import expand_topic_name
from rclpy.qos import QoSProfile

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_ros.atomic import replaced
from lingbot_va_ros.launch_arguments import is_true
from lingbot_va_ros.recorded_topics import recorded_topics

HUMBLE = 'humble'  # its topics have no option, and its metadata has no place for notes


def rosbag2_recording(values: Mapping[str, str], out: Path, release: str) -> list[str]:
    """Write the file of subscriptions, `<out>.qos.yaml`, and return the command that makes the bag `out`.

    Args:
        values: of the launch arguments RECORD.
        out: folder of the new bag.
        release: of ROS, such as 'jazzy'.

    Raises:
        ValueError: a value is not usable, or there is something at `out`.
    """
    if out.exists():
        raise ValueError(f'{out} exists already; remove it or choose another place')
    topics = subscriptions(values['robot'], values['namespace'])
    file = out.with_name(f'{out.name}.qos.yaml')
    command = rosbag2_command(values, list(topics), file, out, release)
    with replaced(file) as temporary:
        temporary.write_text(yaml.safe_dump(qos_overrides(topics), sort_keys=False))
    return command


def subscriptions(robot: str, namespace: str) -> dict[str, QoSProfile]:
    """Return how to subscribe to each topic of the graph that serves a robot, by its full name."""
    return {
        expand_topic_name(topic.name, 'recorder', f'/{namespace.strip("/")}'): topic.subscription
        for topic in recorded_topics(load_profile(robot))
    }


def qos_overrides(topics: Mapping[str, QoSProfile]) -> dict[str, dict[str, str | int]]:
    """Return the content of a file for `--qos-profile-overrides-path`; what it does not name is as by default."""
    return {
        name: {
            'history': qos.history.short_key,
            'depth': qos.depth,
            'reliability': qos.reliability.short_key,
            'durability': qos.durability.short_key,
        }
        for name, qos in topics.items()
    }


def rosbag2_command(values: Mapping[str, str], topics: list[str], qos_file: Path, out: Path, release: str) -> list[str]:
    """Return the command; it ends with SIGINT, or by itself after the given duration.

    Raises:
        ValueError: a value is not usable.
    """
    command = ['ros2', 'bag', 'record', *([] if release == HUMBLE else ['--topics']), *topics]
    command += ['--storage', 'mcap', '--output', str(out), '--qos-profile-overrides-path', str(qos_file)]
    if is_true('use_sim_time', values['use_sim_time']):
        command += ['--use-sim-time']
    if release != HUMBLE:
        command += ['--custom-data', *(f'{name}={note}' for name, note in _notes(values).items())]
    # It knows how long a file may become, but not when to end.
    return [*_within(values['duration']), *command] if values['duration'] else command


def _within(duration: str) -> list[str]:
    try:
        usable = 0 < float(duration) < float('inf')
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"duration is '{duration}'; it must be a number of seconds above 0")
    # In the foreground it stays in the group of processes that a terminal's Ctrl-C reaches.
    return ['timeout', '--foreground', '--preserve-status', '--signal=INT', duration]


def _notes(values: Mapping[str, str]) -> dict[str, str]:
    """Return what the bag is to say of its robot, as `lingbot-va record` does."""
    text = profile_path(values['robot']).read_text()
    if '=' in text:  # there the tool would cut it; in double quotes YAML has another spelling of it
        text = yaml.safe_dump(yaml.safe_load(text), default_style='"', sort_keys=False).replace('=', r'\x3d')
    return {'robot': load_profile(values['robot']).name, 'namespace': values['namespace'], 'profile': text}
