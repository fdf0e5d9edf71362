"""The launch files: for real where launch_ros is installed, and in any case against the table and the parameters."""

import ast
import importlib.util
import os
import signal
from pathlib import Path

import pytest
import yaml
from support import Graph, Program, wait_until

from lingbot_va_ros.node_table import NODES, launch_arguments, nodes

ROOT = Path(__file__).resolve().parents[1]
FILES = {False: ROOT / 'launch' / 'bringup.launch.py', True: ROOT / 'launch' / 'sim.launch.py'}
DEPLOYMENT = {'namespace', 'params_file', 'autostart', 'log_level'}
# The folder launch/ is importable as a namespace package, so `launch` alone would prove nothing.
HAS_LAUNCH = importlib.util.find_spec('launch_ros') is not None
needs_launch = pytest.mark.skipif(not HAS_LAUNCH, reason='launch_ros is not installed, it comes with ROS 2')


@pytest.mark.parametrize('simulation', [False, True])
def test_arguments_are_deployment_settings_or_parameters_of_the_file(simulation: bool) -> None:
    sections = yaml.safe_load((ROOT / 'config' / 'lingbot_va.yaml').read_text())
    parameters = {name for section in sections.values() for name in section['ros__parameters']}
    arguments = {argument.name: argument.description for argument in launch_arguments(simulation)}
    assert set(arguments) >= DEPLOYMENT
    assert set(arguments) - DEPLOYMENT <= parameters
    assert ('task' in arguments) == simulation
    assert all(description.endswith('.') for description in arguments.values())


@pytest.mark.parametrize(('simulation', 'file'), FILES.items())
def test_each_launch_file_describes_its_graph(simulation: bool, file: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    (call,) = [call for call in calls if getattr(call.func, 'id', '') == 'graph_description']
    assert {keyword.arg: keyword.value.value for keyword in call.keywords} == {'simulation': simulation}


def test_executables_of_the_table_are_console_scripts_of_the_same_modules() -> None:
    text = (ROOT / 'setup.py').read_text()
    scripts = dict(
        entry.value.split(' = ')
        for entry in ast.walk(ast.parse(text))
        if isinstance(entry, ast.Constant) and isinstance(entry.value, str) and ' = lingbot_va_ros.' in entry.value
    )
    assert {spec.executable: f'{spec.module}:main' for spec in NODES}.items() <= scripts.items()


@pytest.mark.parametrize('file', FILES.values(), ids=lambda path: path.name)
def test_launch_files_compile(file: Path) -> None:
    compile(file.read_text(), str(file), 'exec')


@needs_launch
@pytest.mark.parametrize('simulation', [False, True])
def test_launch_files_start_the_nodes_of_the_table(simulation: bool) -> None:
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import LifecycleNode

    from lingbot_va_ros.launch_graph import graph_actions

    spec = importlib.util.spec_from_file_location('launch_file', FILES[simulation])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entities = module.generate_launch_description().entities
    context = LaunchContext()
    for entity in entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.execute(context)
    declared = [entity.name for entity in entities if isinstance(entity, DeclareLaunchArgument)]
    assert declared == [argument.name for argument in launch_arguments(simulation)]
    started = [action for action in graph_actions(context, simulation) if isinstance(action, LifecycleNode)]
    assert len(started) == len(nodes(simulation))


@needs_launch
def test_sim_launch_brings_all_nodes_to_active_and_ends_on_ctrl_c(graph: Graph) -> None:
    from lifecycle_msgs.srv import GetState

    code = (
        'from launch import LaunchService\n'
        'from launch.launch_description_sources import get_launch_description_from_python_launch_file as load\n'
        f'service = LaunchService(); service.include_launch_description(load({str(FILES[True])!r}))\n'
        'raise SystemExit(service.run())'
    )
    with Program('-c', code, environment={'ROS_DOMAIN_ID': os.environ['ROS_DOMAIN_ID']}) as program:
        program.wait_for_line('All are active.', timeout=120)
        for spec in nodes(simulation=True):
            assert graph.call(f'{spec.name}/get_state', GetState).current_state.label == 'active'
        program.send(signal.SIGINT)
        program.wait(60)
    running = {spec.name for spec in NODES}
    wait_until(lambda: not running & {name for name, _ in graph.node.get_node_names_and_namespaces()}, 30)
