"""Containers and services, against what the code has: paths, commands, arguments and limits."""

import configparser
import fnmatch
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lingbot_va_ros import cli
from lingbot_va_ros.action_node import ActionNode
from lingbot_va_ros.launch_arguments import graph_arguments
from lingbot_va_ros.node_table import NODES
from lingbot_va_ros.respawns import WINDOW_S

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / 'docker' / 'Dockerfile').read_text().replace('\\\n', ' ')
COMPOSE = yaml.safe_load((ROOT / 'docker' / 'compose.yaml').read_text())
UNITS = ('lingbot_va', 'lingbot_va_serve')
(REALTIME_PRIORITY,) = (own.default for own in ActionNode.PARAMETERS if own.name == 'realtime_priority')


def unit(name: str) -> configparser.SectionProxy:
    """The section [Service]."""
    parser = configparser.ConfigParser(delimiters=('=',), interpolation=None)
    parser.optionxform = str
    parser.read(ROOT / 'systemd' / f'{name}.service')
    return {key: value for section in parser.sections() for key, value in parser[section].items()}


def environment(name: str) -> dict[str, str]:
    lines = (ROOT / 'systemd' / name).read_text().splitlines()
    return dict(line.split('=', 1) for line in lines if not line.startswith('#'))


def assert_launches(command: list[str]) -> None:
    """`ros2 launch lingbot_va FILE NAME:=VALUE...` names a file that is there and arguments that it has."""
    assert command[:3] == ['ros2', 'launch', 'lingbot_va']
    assert (ROOT / 'launch' / command[3]).is_file()
    known = {argument.name for argument in graph_arguments(simulation=False)}
    assert {argument.split(':=')[0] for argument in command[4:]} <= known


def assert_serves(arguments: list[str]) -> None:
    """`lingbot-va serve` takes these arguments."""
    parsed = cli._parser('serve', cli.command_module('serve')).parse_args(['serve', *arguments])
    assert parsed.port == 29056 and parsed.device == 'cuda'


def test_what_the_image_copies_is_there_and_not_left_out() -> None:
    ignored = [line.strip('/') for line in (ROOT / '.dockerignore').read_text().splitlines()]
    copied = re.findall(r'^COPY (?!--from)(.+)$', DOCKERFILE, re.MULTILINE)
    sources = [source for line in copied for source in shlex.split(line)[:-1]]
    assert {'.', 'requirements-ros.txt', 'docker/entrypoint.sh'} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not any(fnmatch.fnmatch(source.split('/')[0], pattern) for pattern in ignored), source
    needed = {'lingbot_va_core', 'lingbot_va_sim', 'lingbot_va_ros', 'lingbot_va_msgs', 'config', 'launch', 'resource'}
    assert not needed & set(ignored)


def test_the_image_runs_as_a_user_and_ends_by_the_signal_that_the_launch_knows() -> None:
    users = re.findall(r'^USER (\S+)', DOCKERFILE, re.MULTILINE)
    assert users and users[-1] != 'root'
    assert 'STOPSIGNAL SIGINT' in DOCKERFILE
    assert_launches(re.findall(r'"([^"]+)"', re.search(r'^CMD (.+)', DOCKERFILE, re.MULTILINE)[1]))


def test_the_image_has_the_opengl_of_the_setup() -> None:
    script = (ROOT / 'scripts' / 'system_packages.sh').read_text()
    listed = re.search(r'packages=\((.+)\)', script)[1].split()
    libraries = {name for name in listed if name.startswith('lib')}
    assert libraries <= set(DOCKERFILE.split()) and len(libraries) > 3


@pytest.mark.parametrize(('state', 'status'), [('active [3]', 0), ('inactive [2]', 1), ('', 1)])
def test_health_is_that_of_a_node(state: str, status: int, tmp_path: Path) -> None:
    (tmp_path / 'setup.bash').touch()
    script = (ROOT / 'docker' / 'healthcheck.sh').read_text()
    script = script.replace('/opt/lingbot_va/setup.bash', str(tmp_path / 'setup.bash'))
    answer = f'[[ "$*" == "lifecycle get /cell/action" ]] && echo "{state}" && [ -n "{state}" ]'
    (tmp_path / 'ros2').write_text(f'#!/bin/bash\n{answer}\n')
    (tmp_path / 'ros2').chmod(0o755)
    known = {'PATH': f'{tmp_path}:/usr/bin:/bin', 'LINGBOT_VA_HEALTH_NODE': '/cell/action'}
    assert subprocess.run(['bash', '-c', script], env=known, timeout=10).returncode == status


def test_the_entry_point_hands_over(tmp_path: Path) -> None:
    (tmp_path / 'setup.bash').write_text('export SOURCED=yes\n')
    script = (ROOT / 'docker' / 'entrypoint.sh').read_text()
    script = script.replace('/opt/lingbot_va/setup.bash', str(tmp_path / 'setup.bash'))
    done = subprocess.run(
        ['bash', '-c', script, 'entrypoint', 'bash', '-c', 'echo $SOURCED "$1"', '-', 'a b'],
        capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    assert done.stdout == 'yes a b\n'
    assert all((ROOT / 'docker' / name).stat().st_mode & 0o111 for name in ('entrypoint.sh', 'healthcheck.sh'))


def test_services_of_compose_run_what_is_there() -> None:
    graph, serve = COMPOSE['services']['graph'], COMPOSE['services']['serve']
    assert_launches(shlex.split(graph['command']))
    assert shlex.split(serve['command'])[:2] == ['lingbot-va', 'serve']
    assert_serves(shlex.split(serve['command'])[2:])
    for service in (graph, serve):
        assert (ROOT / 'docker' / service['build']['context'] / service['build']['dockerfile']).is_file()
    assert graph['restart'] == 'no' and serve['restart'] == 'on-failure'


def test_real_time_priority_is_permitted_as_high_as_the_node_asks() -> None:
    assert int(unit('lingbot_va')['LimitRTPRIO']) == COMPOSE['services']['graph']['ulimits']['rtprio']
    assert int(unit('lingbot_va')['LimitRTPRIO']) == REALTIME_PRIORITY
    assert 'RestrictRealtime' not in unit('lingbot_va')


@pytest.mark.parametrize('name', UNITS)
def test_units_leave_the_gpu_visible(name: str) -> None:
    for setting in ('PrivateDevices', 'DevicePolicy', 'DeviceAllow', 'ProtectClock'):  # the last allows /dev/rtc alone
        assert setting not in unit(name)


def test_units_run_what_is_there() -> None:
    graph, serve = environment('graph.env'), environment('serve.env')
    for name, known in (('lingbot_va', graph), ('lingbot_va_serve', serve)):
        assert set(re.findall(r'\$\$\{(\w+)\}', unit(name)['ExecStart'])) <= set(known)
    launched = re.search(r'exec (ros2 launch .+?) \$', unit('lingbot_va')['ExecStart'])[1]
    assert_launches([*launched.split(), *shlex.split(graph['LINGBOT_VA_ARGUMENTS'])])
    assert_serves(shlex.split(serve['LINGBOT_VA_ARGUMENTS']))


def test_units_start_again_what_may_be_started_again() -> None:
    graph, serve = (unit(name) for name in UNITS)
    assert graph['Restart'] == 'no'
    assert serve['Restart'] == 'on-failure'
    most = max(spec.respawns for spec in NODES)
    assert (float(serve['StartLimitIntervalSec']), int(serve['StartLimitBurst'])) == (WINDOW_S, most + 1)


@pytest.mark.parametrize('name', UNITS)
def test_systemd_understands_the_units(name: str) -> None:
    if not shutil.which('systemd-analyze'):
        pytest.skip('systemd-analyze is not installed')
    command = ['systemd-analyze', 'verify', '--man=no', str(ROOT / 'systemd' / f'{name}.service')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if name in line]) == (0, [])
