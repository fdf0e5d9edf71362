"""The options that say which graph to start, shared by the commands that start one."""

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingbot_va_ros.modes import MODES
from lingbot_va_ros.signals import when_asked_to_end

if TYPE_CHECKING:
    from lingbot_va_ros.bringup import Bringup

LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
HIGHEST_DOMAIN = 232
HIGHEST_SEED = 2**32 - 1
SIMULATION_ONLY = ('task', 'seed', 'real_time_factor')
PARAMETERS = ('robot', 'task', 'preset', 'checkpoint', 'mode', 'seed', 'real_time_factor')
MEASURED = ('still_cameras',)  # parameters that only a benchmark sets


def add_graph_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. One that is left out keeps the value of the parameter files."""
    group = parser.add_argument_group('graph', 'left out: as in config/lingbot_va.yaml and --params-file')
    group.add_argument('--robot', help='robot profile: a name in config/robots or a YAML file')
    group.add_argument('--sim', action=argparse.BooleanOptionalAction, default=True, help='simulated or real robot')
    group.add_argument('--task', help='task of the simulation')
    group.add_argument('--preset', help='configuration of the model')
    group.add_argument('--checkpoint', help='trained weights: a folder or Hub id; none: an untrained model')
    group.add_argument('--mode', choices=MODES, help='how chunks follow each other')
    group.add_argument('--seed', type=int, help='seed of the simulation')
    group.add_argument('--real-time-factor', type=float, metavar='X', help='speed of the simulation; 0: at full speed')
    group.add_argument('--params-file', metavar='FILE', help='ROS parameter file above the installed one')
    group.add_argument('--namespace', default='', help='namespace of all nodes')
    group.add_argument('--log-level', choices=LOG_LEVELS, default='info', help='of the nodes (default: %(default)s)')


def make_graph(
    args: argparse.Namespace,
    log: Callable[[str], None] | None = None,
    only: Sequence[str] = (),
    remaps: Sequence[str] = (),
) -> 'Bringup':
    """Check the options and prepare the graph; nothing is started yet.

    Args:
        args: what `add_graph_arguments` declares.
        log: receives its output instead of stdout.
        only: the nodes that run on this machine; none: all.
        remaps: other names of topics, FROM:=TO.

    Raises:
        ValueError: an option is not usable; the message names it, its value and what is allowed.
    """
    parameters = _checked_parameters(args)
    if args.params_file:
        _check_params_file(args.params_file)
    _check_domain()

    from rclpy.exceptions import InvalidNamespaceException
    from rclpy.validate_namespace import validate_namespace

    from lingbot_va_ros.bringup import Bringup
    from lingbot_va_ros.node_start import parse_remaps
    from lingbot_va_ros.node_table import nodes

    try:
        validate_namespace('/' + args.namespace.strip('/'))
    except InvalidNamespaceException as error:
        raise ValueError(f"--namespace is '{args.namespace}'; {str(error).splitlines()[0]}") from error
    return Bringup(
        nodes(args.sim, only),
        parameters,
        params_file=args.params_file,
        namespace=args.namespace,
        remaps=parse_remaps(remaps),
        log_level=args.log_level,
        node_parameters=_simulated_time(args.real_time_factor),
        log=log,
    )


def stop_on_signals(graph: 'Bringup') -> AbstractContextManager[None]:
    """Let SIGINT, SIGTERM and SIGHUP take the graph down within the block, and kill it the second time."""
    return when_asked_to_end(lambda: graph.request_stop(hurry=graph.stopping))


def _checked_parameters(args: argparse.Namespace) -> dict[str, Any]:
    if not args.sim:
        for name in SIMULATION_ONLY:
            if getattr(args, name) is not None:
                raise ValueError(f'--{name.replace("_", "-")} is for the simulation; leave it out with --no-sim')
    if args.robot is not None:
        from lingbot_va_core.robot import load_profile

        load_profile(args.robot)
    if args.preset is not None:
        from lingbot_va_core.presets import preset

        preset(args.preset)
    if args.checkpoint:
        from lingbot_va_core.devices import AUTO
        from lingbot_va_core.hub import is_hub_id
        from lingbot_va_core.shipped import UNTRAINED

        named = args.checkpoint not in (AUTO, UNTRAINED)
        if named and not Path(args.checkpoint).exists() and not is_hub_id(args.checkpoint):
            raise ValueError(f'--checkpoint is {args.checkpoint}; there is no such file or folder')
    if args.seed is not None and not 0 <= args.seed <= HIGHEST_SEED:
        raise ValueError(f'--seed is {args.seed}; it must be from 0 to {HIGHEST_SEED}')
    factor = args.real_time_factor
    if factor is not None and not 0 <= factor <= 100:
        raise ValueError(f'--real-time-factor is {factor:g}; it must be from 0 (at full speed) to 100')
    given = {name: getattr(args, name, None) for name in PARAMETERS + MEASURED}
    return {name: value for name, value in given.items() if value is not None}


def _simulated_time(real_time_factor: float | None) -> dict[str, dict[str, Any]]:
    """Make all nodes follow the simulation's clock when it does not run like the wall clock."""
    if real_time_factor in (None, 1.0):
        return {}
    followers = {name: {'use_sim_time': True} for name in ('action', 'perception', 'world_model')}
    return {'sim_bridge': {'publish_clock': True}, **followers}


def _check_params_file(name: str) -> None:
    import yaml

    try:
        document = yaml.safe_load(Path(name).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'--params-file {name} cannot be read: {error}') from error
    if not isinstance(document, dict) or 'ros__parameters' not in _keys(document):
        raise ValueError(f'--params-file {name} has no ros__parameters; write "NODE: {{ros__parameters: {{...}}}}"')


def _keys(document: dict) -> set[object]:
    """Collect the keys of nested mappings."""
    return set(document).union(*(_keys(value) for value in document.values() if isinstance(value, dict)))


def _check_domain() -> None:
    domain = os.environ.get('ROS_DOMAIN_ID', '0')
    if not domain.isdecimal() or int(domain) > HIGHEST_DOMAIN:
        raise ValueError(f"ROS_DOMAIN_ID is '{domain}'; it must be a number from 0 to {HIGHEST_DOMAIN}")
