"""The pages say what the code has."""

import ast
import html
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

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


@pytest.mark.parametrize('name', ['perception', 'world_model', 'sim_bridge'])
def test_documented_defaults_are_the_nodes_own(name: str) -> None:
    rows = re.findall(r'^\| `(\w+)` \| ([^|]*) \|', section('docs/nodes.md', name), re.MULTILINE)
    documented = {own: '' if default == 'empty' else default.strip('` ') for own, default in rows}
    for own in NODES[name].PARAMETERS:
        if own.name in documented:
            text = documented[own.name]
            value = text == 'true' if isinstance(own.default, bool) else type(own.default)(text)
            assert value == own.default, own.name


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


@pytest.fixture(scope='module')
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages as a site, where a page without a place, or a link to nothing, is an error."""
    folder = tmp_path_factory.mktemp('site')
    config = load_config(str(ROOT / 'mkdocs.yml'), site_dir=str(folder), strict=True)
    build(config)
    return folder


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r'<[^>]+>', ' ', page.read_text()))


def test_the_site_has_every_page_and_the_readme(site: Path) -> None:
    names = {path.stem for path in (ROOT / 'docs').glob('*.md')}
    assert names <= {path.stem for path in site.glob('*.html')}
    assert 'What runs' in text_of(site / 'index.html')


@pytest.mark.parametrize(('name', 'node'), NODES.items())
def test_the_site_has_a_page_of_each_node_with_all_of_its_parameters(
    name: str, node: type[ManagedNode], site: Path
) -> None:
    page = text_of(site / 'nodes' / f'{name}.html')
    for parameter in node.PARAMETERS:
        assert f' {parameter.name} ' in page
        assert parameter.description in page


def test_the_site_can_be_read_without_a_network(site: Path) -> None:
    loads = re.compile(r'<(?:script|link|img)[^>]*?(?:src|href)="(?:https?:)?//([^"]*)"')
    assert [(page.name, found) for page in site.rglob('*.html') for found in loads.findall(page.read_text())] == []
