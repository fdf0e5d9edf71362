"""What the launch files let a deployment set, and what they make of it. Needs no ROS."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingbot_va_ros.node_start import NodeStart, parse_remaps
from lingbot_va_ros.node_table import nodes

COMMAND = 'lingbot-va'
TRUE, FALSE = ('true', '1'), ('false', '0')


@dataclass(frozen=True)
class LaunchArgument:
    """An argument of a launch file; an empty value leaves the choice to the parameter files or the command."""

    name: str
    description: str
    default: str = ''


NAMESPACE = LaunchArgument('namespace', 'Namespace of all nodes.')
USE_SIM_TIME = LaunchArgument('use_sim_time', 'Follow /clock; empty: as in the parameter files.')
PROFILE = 'Robot profile, a name in config/robots or a YAML file'
ROBOT = LaunchArgument('robot', f'{PROFILE}; empty: as in the parameter files.')
GRAPH = (
    NAMESPACE,
    USE_SIM_TIME,
    LaunchArgument('params_file', 'Parameter file above config/lingbot_va.yaml.'),
    ROBOT,
    LaunchArgument('checkpoint', 'Trained weights, a folder or Hub id; empty: as in the parameter files.'),
    LaunchArgument('mode', 'How chunks follow each other; empty: as in the parameter files.'),
    LaunchArgument('nodes', 'The nodes that run on this machine, separated by spaces; empty: all.'),
    LaunchArgument('remaps', 'Other names of topics, each FROM:=TO, separated by spaces.'),
    LaunchArgument('autostart', 'Bring the nodes to active, in order; false: only start.', 'true'),
    LaunchArgument('log_level', 'Log level of the nodes.', 'info'),
)
TASK = LaunchArgument('task', 'Task of the simulation; empty: as in the parameter files.')
PARAMETERS = ('robot', 'task', 'checkpoint', 'mode')

RECORDED = (
    LaunchArgument('robot', f'{PROFILE}.', 'aloha'),
    NAMESPACE,
    LaunchArgument('use_sim_time', 'Stamp events with the time of /clock.', 'false'),
    LaunchArgument('duration', 'Seconds after which the recording ends; empty: with the launch.'),
)
OWN_RECORDER, ROSBAG2 = 'lingbot_va', 'rosbag2'
RECORD = (
    LaunchArgument('out', 'Folder of the new bag.'),
    *RECORDED,
    LaunchArgument(
        'recorder', f'{OWN_RECORDER}: with marks, notes and counts of drops; {ROSBAG2}: ros2 bag record.', OWN_RECORDER
    ),
)
TRAIN_DATA = (
    LaunchArgument('out', 'Folder of the session: its bag, and the data set that is made of it.'),
    *RECORDED,
    LaunchArgument('instruction', 'What is to be done, where the graph does not say it.'),
    LaunchArgument('format', 'Format of the data set: v3, or v2.1 for the released training code.', 'v3'),
)

HEADLESS = LaunchArgument('headless', 'No window; the cameras are rendered all the same.', 'false')
GAZEBO = (LaunchArgument('world', 'SDF world; empty: a table with a cube.'), HEADLESS)
ISAAC = (
    LaunchArgument('isaac_python', 'python.sh of Isaac Sim; empty: Isaac Sim runs already, with its bridge.'),
    LaunchArgument('stage', 'USD file with the robot and its cameras.'),
    LaunchArgument('articulation', 'Prim of the robot.', '/World/robot'),
    LaunchArgument('cameras', 'Prim of each camera, NAME=PRIM, separated by spaces.'),
    LaunchArgument('ros2_control', 'Put trajectory controllers before Isaac Sim; then also robot:=gazebo.', 'false'),
    HEADLESS,
)


def graph_arguments(simulation: bool, **defaults: str) -> tuple[LaunchArgument, ...]:
    """Return the arguments of a simulated or a real graph, some with other defaults."""
    arguments = (*GRAPH, TASK) if simulation else GRAPH
    return tuple(replace(each, default=defaults.get(each.name, each.default)) for each in arguments)


def is_true(name: str, text: str) -> bool:
    """Read an argument that is true or false.

    Raises:
        ValueError: it is neither.
    """
    if text.lower() not in TRUE + FALSE:
        raise ValueError(f"{name} is '{text}'; it must be true or false")
    return text.lower() in TRUE


def node_starts(simulation: bool, values: Mapping[str, str]) -> tuple[NodeStart, ...]:
    """Return how the nodes are started, given the values of `graph_arguments`.

    Raises:
        ValueError: a value is not usable.
    """
    parameters: dict[str, Any] = {name: values[name] for name in PARAMETERS if values.get(name)}
    if values['use_sim_time']:
        parameters['use_sim_time'] = is_true('use_sim_time', values['use_sim_time'])
    return tuple(
        NodeStart(
            spec,
            values['namespace'].strip('/'),
            Path(values['params_file']).expanduser() if values['params_file'] else None,
            parameters,
            parse_remaps(values['remaps'].split()),
            values['log_level'],
        )
        for spec in nodes(simulation, values['nodes'].split())
    )


def with_rosbag2(values: Mapping[str, str]) -> bool:
    """Whether `ros2 bag record` is to record, given the values of RECORD.

    Raises:
        ValueError: there is no such recorder.
    """
    if values['recorder'] not in (OWN_RECORDER, ROSBAG2):
        raise ValueError(f"recorder is '{values['recorder']}'; it must be {OWN_RECORDER} or {ROSBAG2}")
    return values['recorder'] == ROSBAG2


def record_command(values: Mapping[str, str], out: Path) -> list[str]:
    """Return `lingbot-va record` for the values of RECORD or TRAIN_DATA."""
    command = [COMMAND, 'record', '--robot', values['robot'], '--out', str(out), '--namespace', values['namespace']]
    if values['duration']:
        command += ['--duration', values['duration']]
    if is_true('use_sim_time', values['use_sim_time']):
        command += ['--use-sim-time']
    if values.get('instruction'):
        command += ['--metadata', f'instruction={values["instruction"]}']
    return command


def session_commands(values: Mapping[str, str]) -> list[list[str]]:
    """Return the commands for the values of TRAIN_DATA: record, unless the bag is there, then convert.

    Raises:
        ValueError: no folder was named.
    """
    bag, data_set = folder(values) / 'bag', folder(values) / 'dataset'
    convert = [COMMAND, 'convert', str(bag), '--out', str(data_set), '--format', values['format']]
    return [convert] if bag.exists() else [record_command(values, bag), convert]


def folder(values: Mapping[str, str]) -> Path:
    """Return the folder that is to be written.

    Raises:
        ValueError: none was named.
    """
    if not values['out']:
        raise ValueError('name the folder to write: out:=FOLDER')
    return Path(values['out']).expanduser()


def shown(command: list[str]) -> str:
    """Return a command as one would type it; of a text of several lines the first."""
    lines = [word.split('\n') for word in command]
    return shlex.join(first + '...' if rest else first for first, *rest in lines)
