"""The launch files: for real where launch_ros is installed, and in any case against `lingbot-va up`."""

import argparse
import ast
import importlib.util
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import Graph, Program, living, wait_until

from lingbot_va_ros.cli import COMMANDS
from lingbot_va_ros.commands.graph_options import make_graph
from lingbot_va_ros.launch_arguments import (
    GAZEBO,
    ISAAC,
    RECORD,
    TRAIN_DATA,
    LaunchArgument,
    graph_arguments,
    is_true,
    node_starts,
    record_command,
    session_commands,
    with_rosbag2,
)
from lingbot_va_ros.node_table import NODES, nodes
from lingbot_va_ros.respawns import WINDOW_S, Respawns

ROOT = Path(__file__).resolve().parents[1]
DEPLOYMENT = {'namespace', 'params_file', 'nodes', 'remaps', 'autostart', 'log_level'}
ARGUMENTS = {
    'bringup': graph_arguments(False),
    'sim': graph_arguments(True),
    'gazebo': (*GAZEBO, *graph_arguments(False, robot='gazebo', use_sim_time='true')),
    'isaac': (*ISAAC, *graph_arguments(False, robot='isaac', use_sim_time='true')),
    'record': RECORD,
    'train_data': TRAIN_DATA,
}
# The folder launch/ is importable as a namespace package, so `launch` alone would prove nothing.
HAS_LAUNCH = importlib.util.find_spec('launch_ros') is not None
needs_launch = pytest.mark.skipif(not HAS_LAUNCH, reason='launch_ros is not installed, it comes with ROS 2')
each_file = pytest.mark.parametrize('name', ARGUMENTS)


def values_of(arguments: tuple[LaunchArgument, ...], **given: str) -> dict[str, str]:
    """The values of all arguments, as a launch file gets them."""
    assert set(given) <= {each.name for each in arguments}
    return {each.name: given.get(each.name, each.default) for each in arguments}


def up(*options: str) -> tuple[Any, ...]:
    """How `lingbot-va up` starts its nodes."""
    command = importlib.import_module('lingbot_va_ros.commands.up')
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(options)
    return make_graph(args, only=args.nodes, remaps=args.remap).starts


def test_there_is_a_launch_file_for_each_purpose_and_no_other() -> None:
    assert {path.name for path in (ROOT / 'launch').iterdir() if path.is_file()} == {
        f'{name}.launch.py' for name in ARGUMENTS
    }


@each_file
def test_launch_files_compile(name: str) -> None:
    file = ROOT / 'launch' / f'{name}.launch.py'
    compile(file.read_text(), str(file), 'exec')


@each_file
def test_every_argument_is_described_once(name: str) -> None:
    arguments = ARGUMENTS[name]
    assert len({each.name for each in arguments}) == len(arguments)
    assert all(each.description.endswith('.') for each in arguments)


@each_file
def test_every_argument_is_documented(name: str) -> None:
    pages = [(ROOT / 'docs' / page).read_text() for page in ('launch.md', 'simulators.md')]
    assert f'`{name}.launch.py`' in pages[0]
    assert [each.name for each in ARGUMENTS[name] if f'`{each.name}`' not in ''.join(pages)] == []


@pytest.mark.parametrize('simulation', [False, True])
def test_arguments_are_deployment_settings_or_parameters_of_the_file(simulation: bool) -> None:
    sections = yaml.safe_load((ROOT / 'config' / 'lingbot_va.yaml').read_text())
    parameters = {name for section in sections.values() for name in section['ros__parameters']}
    names = {argument.name for argument in graph_arguments(simulation)}
    assert names >= DEPLOYMENT
    assert names - DEPLOYMENT <= parameters
    assert ('task' in names) == simulation


@pytest.mark.parametrize(
    ('simulation', 'given', 'options'),
    [
        (False, {}, '--no-sim'),
        (True, {}, ''),
        (
            False,
            {'namespace': '/left/cell/', 'robot': 'isaac', 'mode': 'naive', 'log_level': 'debug'},
            '--no-sim --namespace /left/cell/ --robot isaac --mode naive --log-level debug',
        ),
        (
            False,
            {'nodes': 'perception action', 'remaps': 'joint_states:=/robot/joint_states e_stop:=/e_stop'},
            '--no-sim --nodes perception action --remap joint_states:=/robot/joint_states --remap e_stop:=/e_stop',
        ),
        (
            True,
            {'params_file': str(ROOT / 'config' / 'lingbot_va.yaml'), 'task': 'transfer_cube', 'checkpoint': 'none'},
            f'--params-file {ROOT}/config/lingbot_va.yaml --task transfer_cube --checkpoint none',
        ),
    ],
)
def test_launch_files_and_up_start_the_same_nodes_in_the_same_way(
    simulation: bool, given: dict[str, str], options: str
) -> None:
    starts = node_starts(simulation, values_of(graph_arguments(simulation), **given))
    assert starts == up(*shlex.split(options))
    assert [start.spec for start in starts] == list(nodes(simulation, given.get('nodes', '').split()))


def test_use_sim_time_is_a_parameter_of_all_nodes_where_it_is_given() -> None:
    arguments = graph_arguments(False, use_sim_time='true')
    assert all(start.parameters == {'use_sim_time': True} for start in node_starts(False, values_of(arguments)))
    assert all(start.parameters == {} for start in node_starts(False, values_of(graph_arguments(False))))


def test_the_arguments_of_a_process_name_and_remap_it_and_let_the_last_file_win(tmp_path: Path) -> None:
    own, overrides = tmp_path / 'own.yaml', tmp_path / 'overrides.yaml'
    given = values_of(graph_arguments(False), namespace='cell', params_file=str(own), remaps='a:=b')
    start = node_starts(False, given)[0]
    assert start.full_name == '/cell/action'
    text = ' '.join(start.arguments(overrides))
    assert '-r __node:=action -r __ns:=/cell -r a:=b' in text
    files = [each for each in start.arguments(overrides) if each.endswith('.yaml')]
    assert files == [str(ROOT / 'config' / 'lingbot_va.yaml'), str(own), str(overrides)]


@pytest.mark.parametrize(
    ('given', 'reason'),
    [
        ({'nodes': 'action brain'}, "there is no node 'brain' in this graph; it has action, perception, world_model"),
        ({'remaps': 'joint_states=x'}, "'joint_states=x' is no remap; write FROM:=TO"),
        ({'use_sim_time': 'maybe'}, "use_sim_time is 'maybe'; it must be true or false"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        node_starts(False, values_of(graph_arguments(False), **given))


def test_truth_is_read_as_launch_files_write_it() -> None:
    assert [is_true('x', text) for text in ('true', 'True', '1', 'false', 'False', '0')] == [True] * 3 + [False] * 3


def test_the_commands_of_a_session_are_those_of_the_command_line(tmp_path: Path) -> None:
    given = values_of(
        TRAIN_DATA, out=str(tmp_path), robot='isaac', namespace='cell', use_sim_time='true', duration='60',
        instruction='fold the towel', format='v2.1',
    )  # fmt: skip
    record, convert = map(parsed, session_commands(given))
    assert (record.robot, record.out, record.duration, record.use_sim_time) == ('isaac', tmp_path / 'bag', 60.0, True)
    assert (record.namespace, record.metadata) == ('cell', ['instruction=fold the towel'])
    assert (convert.bags, convert.out, convert.format) == ([tmp_path / 'bag'], tmp_path / 'dataset', 'v2.1')
    (tmp_path / 'bag').mkdir()
    assert [parsed(command) for command in session_commands(given)] == [convert], 'the recording is there'
    with pytest.raises(ValueError, match='name the folder to write: out:=FOLDER'):
        session_commands(values_of(TRAIN_DATA))
    plain = parsed(record_command(values_of(RECORD, out=str(tmp_path)), tmp_path))
    assert (plain.duration, plain.use_sim_time, plain.metadata) == (None, False, [])


def test_the_recorder_is_ours_unless_rosbag2_is_asked_for() -> None:
    assert [with_rosbag2(values_of(RECORD, **given)) for given in ({}, {'recorder': 'rosbag2'})] == [False, True]
    with pytest.raises(ValueError, match="recorder is 'rosbag'; it must be lingbot_va or rosbag2"):
        with_rosbag2(values_of(RECORD, recorder='rosbag'))


def parsed(command: list[str]) -> argparse.Namespace:
    """The options of a `lingbot-va` command."""
    program, name, *options = command
    assert program == 'lingbot-va' and name in COMMANDS
    parser = argparse.ArgumentParser()
    importlib.import_module(f'lingbot_va_ros.commands.{name}').add_arguments(parser)
    return parser.parse_args(options)


def test_a_node_is_started_again_only_so_often_within_a_while() -> None:
    now = 0.0
    respawns = Respawns(2, lambda: now)
    for _ in range(2):
        assert respawns.allowed()
        respawns.note()
    assert not respawns.allowed()
    now = WINDOW_S
    assert respawns.allowed()
    assert respawns.count == 2


def test_executables_of_the_table_are_console_scripts_of_the_same_modules() -> None:
    text = (ROOT / 'setup.py').read_text()
    scripts = dict(
        entry.value.split(' = ')
        for entry in ast.walk(ast.parse(text))
        if isinstance(entry, ast.Constant) and isinstance(entry.value, str) and ' = lingbot_va_ros.' in entry.value
    )
    assert {spec.executable: f'{spec.module}:main' for spec in NODES}.items() <= scripts.items()


def load(name: str, **given: str) -> tuple[list[Any], Any]:
    """Load a launch file under the real launch; return what it declares and does, and its context."""
    from launch import LaunchContext

    spec = importlib.util.spec_from_file_location('launch_file', ROOT / 'launch' / f'{name}.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext()
    context.launch_configurations.update(given)
    return module.generate_launch_description().entities, context


def actions_of(name: str, **given: str) -> list[Any]:
    """What a launch file does with these arguments, with the others at their defaults."""
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    entities, context = load(name, **given)
    for entity in entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    (body,) = [entity for entity in entities if isinstance(entity, OpaqueFunction)]
    return body.execute(context)


@needs_launch
@each_file
def test_launch_files_execute_with_the_arguments_of_the_table(name: str, tmp_path: Path) -> None:
    from launch.actions import DeclareLaunchArgument

    given = {'out': str(tmp_path)} if name in ('record', 'train_data') else {}
    entities, _ = load(name, **given)
    declared = [entity.name for entity in entities if isinstance(entity, DeclareLaunchArgument)]
    assert declared == [argument.name for argument in ARGUMENTS[name]]
    assert actions_of(name, **given)


@needs_launch
def test_controllers_are_started_before_isaac_sim_where_they_are_asked_for() -> None:
    from launch_ros.actions import Node

    def programs(**given: str) -> list[str]:
        return [each.node_executable for each in actions_of('isaac', **given) if isinstance(each, Node)]

    controllers = ['robot_state_publisher', 'ros2_control_node', 'spawner']
    assert programs(ros2_control='true', robot='gazebo') == [*controllers, *programs()]
    with pytest.raises(ValueError, match='say robot:=gazebo'):
        programs(ros2_control='true')


@needs_launch
def test_isaac_sim_is_started_where_its_python_is_named() -> None:
    from launch.actions import ExecuteProcess
    from launch_ros.actions import Node

    def processes(**given: str) -> list[str]:
        others = [each for each in actions_of('isaac', **given) if not isinstance(each, Node)]
        return [each.cmd[0][0].text for each in others if isinstance(each, ExecuteProcess)]

    assert processes() == []
    assert processes(isaac_python='/isaac/python.sh', stage='cell.usd') == ['/isaac/python.sh']


@needs_launch
def test_a_session_whose_bag_is_there_begins_with_the_conversion(tmp_path: Path) -> None:
    from launch.actions import LogInfo

    def first() -> str:
        told = [each for each in actions_of('train_data', out=str(tmp_path)) if isinstance(each, LogInfo)]
        return ''.join(part.text for part in told[0].msg)

    assert first().startswith('Runs lingbot-va record ')
    (tmp_path / 'bag').mkdir()
    assert first().startswith('Runs lingbot-va convert ')


@needs_launch
def test_rosbag2_records_where_it_is_asked_to(tmp_path: Path) -> None:
    from launch.actions import ExecuteProcess

    def program(**given: str) -> list[str]:
        (process,) = [each for each in actions_of('record', out=str(tmp_path / 'bag'), **given)
                      if isinstance(each, ExecuteProcess)]  # fmt: skip
        return [part.text for part in process.cmd[0] if hasattr(part, 'text')]

    assert program(recorder='rosbag2') == ['ros2']
    assert (tmp_path / 'bag.qos.yaml').is_file()
    assert program() == []  # found in this package when it is started


@needs_launch
@pytest.mark.parametrize(('autostart', 'asked'), [('true', 1), ('false', 0)])
def test_nothing_is_asked_of_the_nodes_without_autostart(autostart: str, asked: int) -> None:
    from launch.actions import EmitEvent
    from launch_ros.actions import LifecycleNode

    actions = actions_of('sim', autostart=autostart)
    assert sum(isinstance(each, LifecycleNode) for each in actions) == len(nodes(simulation=True))
    assert sum(isinstance(each, EmitEvent) for each in actions) == asked, 'the first node, to configure'


@needs_launch
@pytest.mark.parametrize(('status', 'stopping', 'ends'), [(1, False, True), (0, False, False), (-2, True, False)])
def test_a_program_that_fails_ends_the_launch_unless_it_ends_already(status: int, stopping: bool, ends: bool) -> None:
    from launch.actions import Shutdown

    from lingbot_va_ros.launch_simulators import _if_failed

    ended = _if_failed('the controllers could not be started')
    done = ended(SimpleNamespace(returncode=status), SimpleNamespace(is_shutdown=stopping)) or []
    assert [each.event.reason for each in done if isinstance(each, Shutdown)] == (
        ['the controllers could not be started; its log says why'] if ends else []
    )


@needs_launch
@pytest.mark.parametrize('simulation', [False, True])
def test_launch_files_start_processes_as_up_does(simulation: bool) -> None:
    from launch import LaunchContext
    from launch.substitutions import TextSubstitution
    from launch_ros.actions import LifecycleNode

    from lingbot_va_ros.launch_graph import graph_actions

    given = values_of(graph_arguments(simulation), namespace='cell', robot='isaac', remaps='e_stop:=/e_stop')
    started = [action for action in graph_actions(simulation, given) if isinstance(action, LifecycleNode)]
    options = '--namespace cell --robot isaac --remap e_stop:=/e_stop' + ('' if simulation else ' --no-sim')
    starts = up(*shlex.split(options))
    assert len(started) == len(starts)
    for action, start in zip(started, starts, strict=True):
        action._perform_substitutions(LaunchContext())
        assert (action.node_package, action.node_executable) == ('lingbot_va', start.spec.executable)
        assert action.node_name == start.full_name
        # What is said in other substitutions (executable, name, namespace) has just been compared.
        words = [[part.text for part in word if isinstance(part, TextSubstitution)] for word in action.cmd]
        command = [''.join(word) for word in words]
        assert [command[i + 1] for i, word in enumerate(command) if word == '--log-level'] == [start.log_level]
        assert 'e_stop:=/e_stop' in command
        files = [command[i + 1] for i, word in enumerate(command) if word == '--params-file']
        assert files[:-1] == list(start.params_files)
        told = yaml.safe_load(Path(files[-1]).read_text())
        assert [section['ros__parameters'] for section in told.values()] == [start.parameters]


@contextmanager
def launched() -> Iterator[Program]:
    """The simulated graph under launch, all its nodes active."""
    code = (
        'from launch import LaunchService\n'
        'from launch.launch_description_sources import get_launch_description_from_python_launch_file as load\n'
        f'service = LaunchService(); service.include_launch_description(load({str(ROOT / "launch/sim.launch.py")!r}))\n'
        'raise SystemExit(service.run())'
    )
    with Program('-c', code, environment={'ROS_DOMAIN_ID': os.environ['ROS_DOMAIN_ID']}) as program:
        program.wait_for_line('All are active.', timeout=120)
        try:
            yield program
        finally:
            if living('parent', program.pid):  # what is left where an assertion failed
                program.send(signal.SIGINT)
                program.wait(60)


def processes_of(program: Program) -> dict[str, int]:
    """The process of each node of a launch."""
    found = {}
    for process in living('parent', program.pid):
        words = Path(f'/proc/{process}/cmdline').read_text().split('\0')
        found |= {word.removeprefix('__node:='): process for word in words if word.startswith('__node:=')}
    return found


def wait_until_gone(graph: Graph) -> None:
    running = {spec.name for spec in NODES}
    wait_until(lambda: not running & {name for name, _ in graph.node.get_node_names_and_namespaces()}, 30)


@needs_launch
def test_sim_launch_brings_all_nodes_to_active_and_ends_on_ctrl_c(graph: Graph) -> None:
    from lifecycle_msgs.srv import GetState

    with launched() as program:
        for spec in nodes(simulation=True):
            assert graph.call(f'{spec.name}/get_state', GetState).current_state.label == 'active'
        program.send(signal.SIGINT)
        program.wait(60)
    wait_until_gone(graph)


@needs_launch
def test_perception_is_started_again_and_the_others_go_on(graph: Graph) -> None:
    with launched() as program:
        before = processes_of(program)
        assert set(before) == {spec.name for spec in nodes(simulation=True)}
        os.kill(before['perception'], signal.SIGKILL)
        wait_until(lambda: program.output.count('perception is active.') == 2, 120, 'perception, active again')
        after = processes_of(program)
        assert after.pop('perception') != before.pop('perception')
        assert after == before
        program.send(signal.SIGINT)
        program.wait(60)
    wait_until_gone(graph)


@needs_launch
def test_the_launch_ends_with_the_action_node(graph: Graph) -> None:
    with launched() as program:
        processes = processes_of(program)
        os.kill(processes['action'], signal.SIGKILL)
        program.wait(60)
    assert 'is started again' not in program.output
    assert [name for name, process in processes.items() if Path(f'/proc/{process}').exists()] == []
    wait_until_gone(graph)
