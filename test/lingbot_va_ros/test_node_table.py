"""One table for launch files and bring-up: its order, and that it agrees with the parameters and needs no ROS."""

import subprocess
import sys
from pathlib import Path

import yaml

from lingbot_va_ros.node_table import NODES, nodes

ROOT = Path(__file__).resolve().parents[2]


def test_order_to_active_holds_the_arms_before_anything_can_move_them() -> None:
    assert [spec.name for spec in nodes(simulation=True)] == ['sim_bridge', 'action', 'perception', 'world_model']
    assert [spec.name for spec in nodes(simulation=False)] == ['action', 'perception', 'world_model']


def test_names_orders_and_modules_are_unique() -> None:
    for field in ('name', 'executable', 'module', 'order'):
        values = [getattr(spec, field) for spec in NODES]
        assert len(set(values)) == len(values), field


def test_the_parameter_file_names_the_nodes_of_the_table() -> None:
    parameters = yaml.safe_load((ROOT / 'config' / 'lingbot_va.yaml').read_text())
    assert set(parameters) == {'/**', *(f'/**/{spec.name}' for spec in NODES)}
    assert all(set(section) == {'ros__parameters'} for section in parameters.values())


def test_the_table_is_importable_without_rclpy() -> None:
    code = 'import sys, lingbot_va_ros.node_table; sys.exit("rclpy" in sys.modules or "torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=False).returncode == 0
