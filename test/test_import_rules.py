"""The table of docs/architecture.md, who may import what: checked in the sources and in running interpreters."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SIMULATORS = {'mujoco', 'gym_aloha', 'gymnasium', 'dm_control', 'dm_env'}
ROS = {'rclpy', 'cv_bridge', 'launch', 'launch_ros', 'message_filters', 'rosbag2_py', 'rosbags', 'tf2_ros', 'std_srvs',
       'ament_index_python', 'lingbot_va_msgs'}
ROS_SUFFIXES = ('_msgs', '_interfaces')
BRIDGE = 'lingbot_va_ros/sim_bridge_node.py'
SIMULATING = {BRIDGE, 'lingbot_va_ros/leader.py', 'lingbot_va_ros/commands/collect.py',
              'lingbot_va_ros/commands/eval.py', 'lingbot_va_ros/commands/results.py'}
KINEMATICS = ('lingbot_va_core/arm_model.py', 'lingbot_va_core/kinematics.py')  # MuJoCo reads URDF and MJCF; lazily


def is_ros(module: str) -> bool:
    return module in ROS or module.endswith(ROS_SUFFIXES) or module.startswith(('rosidl_', 'rmw_'))


def forbidden(path: str, module: str) -> bool:
    """Tell whether the file at `path`, relative to the root, may not import the top-level `module`."""
    simulation = module in SIMULATORS or module == 'lingbot_va_sim'
    if module == 'mujoco' and path in KINEMATICS:
        return False
    if path.startswith('lingbot_va_core/'):
        return is_ros(module) or simulation or module == 'lingbot_va_ros'
    if path.startswith('lingbot_va_sim/'):
        return is_ros(module) or module == 'lingbot_va_ros'
    return simulation and path not in SIMULATING


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and top-level module of every absolute import, at any depth, import_module('...') included."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', '')
            if function in ('import_module', '__import__', 'run_module') and isinstance(node.args[0].value, str):
                names = [node.args[0].value]
        yield from ((node.lineno, name.split('.')[0]) for name in names)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob('*.py'))


def loaded_modules(folder: str) -> set[str]:
    """Import every module of a folder in a new interpreter; return the top-level modules that it then holds."""
    names = ['.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
             for path in sources(folder) if path.name != '__main__.py']
    script = (f'import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n'
              'print(*{name.split(".")[0] for name in sys.modules})')
    done = subprocess.run([sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize('folder', ['lingbot_va_core', 'lingbot_va_sim', 'lingbot_va_ros'])
def test_sources_obey_the_table(folder):
    files = sources(folder)
    assert files
    broken = [f'{path.relative_to(ROOT)}:{line} imports {module}'
              for path in files for line, module in imported_modules(path.read_text())
              if forbidden(path.relative_to(ROOT).as_posix(), module)]
    assert broken == []


def test_core_loads_neither_ros_nor_a_simulator():
    loaded = loaded_modules('lingbot_va_core')
    assert 'torch' in loaded
    assert [m for m in sorted(loaded) if forbidden('lingbot_va_core/any.py', m)] == []


def test_simulation_loads_no_ros():
    loaded = loaded_modules('lingbot_va_sim')
    assert 'mujoco' in loaded
    assert [m for m in sorted(loaded) if forbidden('lingbot_va_sim/any.py', m)] == []


@pytest.mark.parametrize(('path', 'source', 'refused'), [
    ('lingbot_va_core/a.py', 'def f():\n    import rclpy.node', True),
    ('lingbot_va_core/a.py', 'if True:\n    from sensor_msgs.msg import Image', True),
    ('lingbot_va_core/a.py', 'importlib.import_module("mujoco")', True),
    ('lingbot_va_core/a.py', 'from lingbot_va_core import clock', False),
    ('lingbot_va_sim/a.py', 'from lingbot_va_ros import cli', True),
    ('lingbot_va_sim/a.py', 'import mujoco', False),
    ('lingbot_va_sim/a.py', 'from lingbot_va_core.robot import RobotProfile', False),
    ('lingbot_va_ros/perception_node.py', 'try:\n    import lingbot_va_sim.tasks\nexcept ImportError: pass', True),
    (KINEMATICS[0], 'def f():\n    import mujoco', False),
    (KINEMATICS[0], 'import gym_aloha', True),
    (BRIDGE, 'from lingbot_va_sim.simulation import Simulation', False),
    ('lingbot_va_ros/commands/collect.py', 'from lingbot_va_sim.collect import collect', False),
    ('lingbot_va_ros/commands/demo.py', 'from lingbot_va_sim.collect import collect', True),
])
def test_rules_see_lazy_imports_and_know_the_exceptions(path, source, refused):
    assert any(forbidden(path, module) for _, module in imported_modules(source)) == refused
