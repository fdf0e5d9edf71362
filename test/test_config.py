"""The parameter file lists what the nodes declare, with the same defaults."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from lingbot_va_ros.managed_node import ManagedNode
from lingbot_va_ros.node_table import NODES, NodeSpec

FILE = Path(__file__).resolve().parents[1] / 'config' / 'lingbot_va.yaml'


@pytest.mark.parametrize('spec', NODES, ids=lambda spec: spec.name)
def test_the_file_has_every_parameter_of_the_node_with_its_default(spec: NodeSpec) -> None:
    module = import_module(spec.module)
    [node] = [kind for kind in vars(module).values() if _is_node_of(kind, module.__name__)]
    sections = yaml.safe_load(FILE.read_text())
    listed = sections['/**']['ros__parameters'] | sections[f'/**/{spec.name}']['ros__parameters']
    assert listed.pop('use_sim_time') is False
    assert listed == {parameter.name: parameter.default for parameter in node.PARAMETERS}


def _is_node_of(kind: object, module: str) -> bool:
    return isinstance(kind, type) and issubclass(kind, ManagedNode) and kind.__module__ == module
