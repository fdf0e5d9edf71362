"""How the process of a node is started: what `lingbot-va up` and the launch files have in common."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lingbot_va_core.resources import share_dir
from lingbot_va_ros.node_table import NodeSpec

Remap = tuple[str, str]


@dataclass(frozen=True)
class NodeStart:
    """What a node is told when it is started.

    Attributes:
        namespace: without slashes at its ends.
        params_file: above `config/lingbot_va.yaml`, or None.
        parameters: above both.
        remaps: from which name to which, for all nodes alike.
    """

    spec: NodeSpec
    namespace: str = ''
    params_file: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remaps: tuple[Remap, ...] = ()
    log_level: str = 'info'

    @property
    def full_name(self) -> str:
        """Name with the namespace."""
        return '/'.join(['', *filter(None, [self.namespace, self.spec.name])])

    @property
    def params_files(self) -> tuple[str, ...]:
        """The parameter files, the last one above the others."""
        files = (share_dir() / 'config' / 'lingbot_va.yaml', self.params_file)
        return tuple(str(file) for file in files if file)

    def arguments(self, overrides: Path | None) -> list[str]:
        """Return the arguments of the process; `overrides` is a parameter file with `parameters`."""
        renamed = [('__node', self.spec.name), ('__ns', f'/{self.namespace}'), *self.remaps]
        arguments = ['--ros-args', '--log-level', self.log_level]
        for source, target in renamed:
            arguments += ['-r', f'{source}:={target}']
        for file in (*self.params_files, *([str(overrides)] if overrides else [])):
            arguments += ['--params-file', file]
        return arguments


def parse_remaps(rules: Iterable[str]) -> tuple[Remap, ...]:
    """Read rules such as `joint_states:=/robot/joint_states`.

    Raises:
        ValueError: one is not of this form.
    """
    remaps = []
    for rule in rules:
        source, separator, target = rule.partition(':=')
        if not (source and separator and target):
            raise ValueError(f"'{rule}' is no remap; write FROM:=TO")
        remaps.append((source, target))
    return tuple(remaps)
