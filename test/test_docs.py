"""The pages say what the code has."""

import ast
import re
from pathlib import Path

import pytest

from lingbot_va_ros.action_node import ActionNode
from lingbot_va_ros.cli import COMMANDS
from lingbot_va_ros.managed_node import ROBOT, ManagedNode
from lingbot_va_ros.model_parameters import MODEL_PARAMETERS
from lingbot_va_ros.perception_node import PerceptionNode
from lingbot_va_ros.sim_bridge_node import SimBridgeNode
from lingbot_va_ros.world_model_node import WorldModelNode

ROOT = Path(__file__).resolve().parents[1]
NODES = {
    'perception': PerceptionNode,
    'world_model': WorldModelNode,
    'action': ActionNode,
    'sim_bridge': SimBridgeNode,
}


def section(page: str, title: str) -> str:
    """The text of one section of a page."""
    return (ROOT / page).read_text().split(f'\n## {title}\n')[1].split('\n## ')[0]


@pytest.mark.parametrize(('name', 'node'), NODES.items())
def test_every_parameter_of_a_node_is_documented(name: str, node: type[ManagedNode]) -> None:
    common = {parameter.name for parameter in (ROBOT, *MODEL_PARAMETERS)}
    own = {parameter.name for parameter in node.PARAMETERS} - common
    place = ('docs/action_node.md', 'Parameters') if name == 'action' else ('docs/nodes.md', name)
    documented = set(re.findall(r'^\| `(\w+)` \|', section(*place), re.MULTILINE))
    assert own <= documented
    assert documented - own <= {'instruction'}  # sim_bridge declares it by hand: its default depends on the task


def test_ranges_and_what_is_live_are_documented() -> None:
    lines = [line for line in section('docs/action_node.md', 'Parameters').splitlines() if line.startswith('| `')]
    rows = [[cell.strip('` ') for cell in line.split('|')[1:-1]] for line in lines]
    documented = {name: (numbers.split(' ')[:3:2], live) for name, _, numbers, live, _ in rows}
    declared = {
        own.name: ([''] if own.lower is None else [f'{own.lower:g}', f'{own.upper:g}'], 'yes' if own.live else '')
        for own in ActionNode.PARAMETERS
        if own is not ROBOT
    }
    assert documented == declared


def test_parameters_that_nodes_share_are_documented() -> None:
    page = (ROOT / 'docs/nodes.md').read_text()
    assert [parameter.name for parameter in (ROBOT, *MODEL_PARAMETERS) if f'`{parameter.name}`' not in page] == []


def test_the_readme_lists_the_commands() -> None:
    documented = re.findall(r'^\| `([\w-]+)` \|', section('README.md', 'The command line'), re.MULTILINE)
    assert documented == [name for name in documented if name in COMMANDS]
    assert set(documented) == set(COMMANDS)


@pytest.mark.parametrize('page', ['README.md', *sorted(f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md'))])
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r'\]\(([^)#]+)\)', (ROOT / page).read_text())
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_what_troubleshooting_quotes_is_what_the_code_says() -> None:
    texts = {
        node.value
        for folder in ('lingbot_va_core', 'lingbot_va_sim', 'lingbot_va_ros')
        for path in (ROOT / folder).rglob('*.py')
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    quotes = re.findall(r'^> (.+)$', (ROOT / 'docs/troubleshooting.md').read_text(), re.MULTILINE)
    pieces = {piece.strip() for quote in quotes for piece in quote.split('…')}
    assert [piece for piece in pieces if not any(piece in text for text in texts)] == []
    assert len(quotes) > 10
