"""A suite of benchmarks, run line by line, and the page that holds their tables between marks."""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lingbot_va_core.hardware import hardware_line
from lingbot_va_ros.atomic import replaced
from lingbot_va_ros.bench_tables import sheets

KINDS = ('chunk', 'cache', 'vae', 'train', 'nodes')
BEGIN, END = '<!-- measured: {} -->', '<!-- end -->'


class SuiteError(ValueError):
    """A suite or a page that cannot be used."""


def read_suite(path: Path) -> dict[str, list[list[str]]]:
    """Read options by kind of measurement: a YAML mapping of 'chunk', 'cache', ... to lists of command lines.

    Raises:
        SuiteError: the file cannot be read, or says something else.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise SuiteError(f'{path} cannot be read: {error}') from error
    if not isinstance(document, dict) or not document or not set(document) <= set(KINDS):
        raise SuiteError(f'{path} must be a mapping of {", ".join(KINDS)} to lists of options')
    for kind, lines in document.items():
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise SuiteError(f'{path}: {kind} is {lines!r:.80}; it must be a list of options')
    return {kind: [shlex.split(line) for line in lines] for kind, lines in document.items()}


def run_suite(suite: Mapping[str, Sequence[Sequence[str]]], out: Path) -> dict[str, list[dict[str, Any]]]:
    """Run every line in a process of its own, so that none has the memory or the threads of another.

    Returns:
        What each wrote to `out`, by kind.

    Raises:
        RuntimeError: a line failed.
    """
    measured: dict[str, list[dict[str, Any]]] = {}
    for kind, lines in suite.items():
        for i, options in enumerate(lines):
            file = out / f'{kind}-{i}.json'
            command = ['bench', kind, *options, '--json', str(file)]
            print(f'lingbot-va {shlex.join(command)}', flush=True)
            done = subprocess.run([sys.executable, '-m', 'lingbot_va_ros.cli', *command])
            if done.returncode:
                raise RuntimeError(f'`{shlex.join(command)}` ended with status {done.returncode}')
            measured.setdefault(kind, []).append(json.loads(file.read_text()))
    return measured


def write_tables(page: Path, measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Put the tables of each kind in the place between its marks.

    Raises:
        SuiteError: the page has no place for a kind.
    """
    text = page.read_text()
    for kind, results in measured.items():
        head, begin, rest = text.partition(BEGIN.format(kind))
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise SuiteError(f'{page} has no place for {kind}; write {BEGIN.format(kind)} and {END} into it')
        text = f'{head}{begin}\n{_tables(kind, results)}\n{end}{tail}'
    with replaced(page) as temporary:
        temporary.write_text(text)


def _tables(kind: str, results: Sequence[Mapping[str, Any]]) -> str:
    places = dict.fromkeys(
        f'{hardware_line(each["hardware"])} ({each["hardware"]["threads"]} threads of torch '
        f'{each["hardware"]["torch"]}), {each["date"]}'
        for each in results
    )
    lines = [f'Measured on {place}.' for place in places]
    for sheet in sheets(kind, results):
        lines += ['', *sheet.markdown()]
    commands = [each['command'].partition(' --json')[0] for each in results]
    return '\n'.join([*lines, '', '```bash', *commands, '```'])
