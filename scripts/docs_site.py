"""What mkdocs has beside the pages in docs/: the home page, a page per node, and links that would leave the site."""

import importlib
import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from lingbot_va_ros.managed_node import ManagedNode, Parameter
from lingbot_va_ros.node_table import NODES, NodeSpec
from lingbot_va_ros.respawns import WINDOW_S

ROOT = Path(__file__).resolve().parents[1]
HOME = 'index.md'
LINK = re.compile(r'(?<!!)\[([^\]]+)\]\(([^)#]+)(#[^)]*)?\)')
TYPES = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name headings as they are named where the repository itself is read, so that links are right in both."""
    config.mdx_configs['toc'] = {**config.mdx_configs.get('toc', {}), 'slugify': anchor}
    return config


def anchor(heading: str, separator: str) -> str:
    """Return the part of an address behind # that leads to a heading."""
    return re.sub(r'[^\w -]', '', heading.lower()).strip().replace(' ', separator)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated."""
    files.append(File.generated(config, HOME, content=(ROOT / 'README.md').read_text().replace('](docs/', '](')))
    for spec in NODES:
        files.append(File.generated(config, f'nodes/{spec.name}.md', content=node_page(spec)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave of links to sources and configuration, which are not part of the site, the words."""
    folder = ROOT if page.file.src_uri == HOME else (Path(config.docs_dir) / page.file.src_uri).parent

    def words(link: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[2]))
        leaves = not files.get_file_from_path(target) and (folder / link[2]).exists()
        return link[1] if leaves else link[0]

    return LINK.sub(words, markdown)


def node_page(spec: NodeSpec) -> str:
    """Return the page of a node, from its class and its parameters."""
    node = node_class(spec)
    rows = [row(parameter) for parameter in node.PARAMETERS]
    return '\n'.join([
        f'# {spec.name}',
        '',
        (node.__doc__ or '').strip(),
        '',
        f'`ros2 run lingbot_va {spec.executable}`; {fate(spec)} What it does with the values, its topics and its '
        f'diagnostics: [nodes](../nodes.md#{spec.name}).',
        '',
        '## Parameters',
        '',
        f'As `ros2 param describe {spec.name} NAME` shows them. Those that are not live are read once.',
        '',
        '| parameter | type | default | allowed | live | meaning |',
        '|---|---|---|---|---|---|',
        *rows,
        '',
    ])  # fmt: skip


def node_class(spec: NodeSpec) -> type[ManagedNode]:
    """Return the class that a module of the node table has its node from."""
    found = vars(importlib.import_module(spec.module)).values()
    (node,) = (each for each in found if getattr(each, '__module__', '') == spec.module and is_node(each))
    return node


def is_node(found: object) -> bool:
    """Tell whether something is a class of lifecycle nodes."""
    return isinstance(found, type) and issubclass(found, ManagedNode)


def fate(spec: NodeSpec) -> str:
    """Return what follows when the process ends."""
    if spec.respawns:
        return f'when it ends, it is started again, {spec.respawns} times within {WINDOW_S / 60:g} minutes at most.'
    return 'when it ends, the graph ends.' if spec.required else 'when it ends, the graph goes on.'


def row(parameter: Parameter) -> str:
    """Return the line of the table that describes a parameter."""
    allowed = ', '.join(f'`{choice}`' for choice in parameter.choices)
    if parameter.lower is not None and parameter.upper is not None:
        kind = type(parameter.default)
        allowed = f'{kind(parameter.lower)} to {kind(parameter.upper)}'
    cells = (f'`{parameter.name}`', TYPES[type(parameter.default)], f'`{json.dumps(parameter.default)}`', allowed,
             'yes' if parameter.live else '', parameter.description.replace('|', '\\|'))  # fmt: skip
    return f'| {" | ".join(cells)} |'
