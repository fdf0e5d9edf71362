"""`lingbot-va bench`: measures speed and memory, each beside a baseline of the same run."""

import argparse
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingbot_va_ros.commands.graph_options import add_graph_arguments, make_graph, stop_on_signals

if TYPE_CHECKING:
    from lingbot_va_ros.bringup import Bringup

EXAMPLE = 'lingbot-va bench nodes --seconds 20 --mode sync --json out/bench.json'
LONGEST_S = 3600.0
BASELINE_S = 3.0
FIRST_CHUNK_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be measured."""
    parser.description = 'Measure speed and memory. nodes: the simulated graph during an episode, from its topics.'
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('what', choices=['nodes'], help='what to measure')
    add_graph_arguments(parser)
    parser.add_argument('--seconds', type=float, default=20.0, help='length of the measurement (default: %(default)g)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')


def run(args: argparse.Namespace) -> int:
    """Measure, print a table and write the numbers."""
    if not 1 <= args.seconds <= LONGEST_S:
        raise ValueError(f'--seconds is {args.seconds:g}; it must be from 1 to {LONGEST_S:g}')
    if not args.sim:
        raise ValueError('--no-sim: the benchmark would move a robot; leave it out')
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.ros_domain import free_domain

    os.environ.setdefault('ROS_DOMAIN_ID', str(free_domain()))
    graph = make_graph(args)
    with stop_on_signals(graph):
        numbers = _measure(graph, args)
    if args.json:
        write_json(args.json, numbers)
    _print(numbers)
    return 0


def _measure(graph: 'Bringup', args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_core.robot import load_profile
    from lingbot_va_ros.graph_parameters import read_parameters
    from lingbot_va_ros.node_benchmark import CpuMeter, Monitor, bare_timer
    from lingbot_va_ros.ros_environment import apply_ros_defaults

    apply_ros_defaults()
    print(f'Measuring a bare timer for {BASELINE_S:g} s.', flush=True)
    profile = load_profile(args.robot or 'aloha')
    baseline = {'timer_period_ms': bare_timer(profile.clock.action_ns, BASELINE_S)}
    with graph:
        used = read_parameters('world_model', ['robot', 'mode', 'preset'], args.namespace)
        profile = load_profile(used['robot'])
        with Monitor(profile, args.namespace) as monitor, _Episode(graph, args):
            if not monitor.chunk_seen.wait(FIRST_CHUNK_S):
                _raise(graph, f'no action chunk within {FIRST_CHUNK_S:g} s')
            monitor.clear()
            cpu = CpuMeter(graph.pids)
            if graph.failed.wait(args.seconds) or graph.stopping:
                _raise(graph, 'interrupted')
            nodes = cpu.report()
            numbers = monitor.report()
    return {**used, 'seconds': args.seconds, 'cores': os.cpu_count(), 'baseline': baseline, **numbers, 'nodes': nodes}


class _Episode:
    """Episodes, one after another, in a thread for as long as the `with` block."""

    def __init__(self, graph: 'Bringup', args: argparse.Namespace) -> None:
        self._graph, self._args, self._over = graph, args, threading.Event()
        self._thread = threading.Thread(target=self._run, name='episode', daemon=True)

    def __enter__(self) -> '_Episode':
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        from lingbot_va_ros.task_client import TaskError, run_task

        try:
            while not self._stop():
                run_task('benchmark', LONGEST_S, namespace=self._args.namespace, stop=self._stop)
        except TaskError as error:
            print(f'The episode did not run: {error}', flush=True)

    def _stop(self) -> bool:
        return self._over.is_set() or self._graph.stopping or self._graph.failed.is_set()


def _raise(graph: 'Bringup', problem: str) -> None:
    raise graph.failure or RuntimeError(problem)


def _print(numbers: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from lingbot_va_ros.latency_stages import OWN, STAGES

    def spread(values: dict[str, float | None]) -> tuple[str, ...]:
        return tuple('-' if values[key] is None else f'{values[key]:.1f}' for key in ('p50', 'p99', 'max'))

    title = f'{numbers["robot"]}, {numbers["mode"]}, {numbers["seconds"]:g} s, {numbers["cores"]} cores'
    times = Table('ms', 'p50', 'p99', 'max', title=title)
    times.add_row('timer alone, nothing else running', *spread(numbers['baseline']['timer_period_ms']))
    times.add_row('command period', *spread(numbers['command_period_ms']))
    for part in ('latency', 'grounding', 'video', 'action'):
        times.add_row(f'chunk {part}', *spread(numbers[f'chunk_{part}_ms']))
    path = Table('from the newest image to the first command of a chunk, ms', 'p50', 'p99', 'max')
    own = ', '.join(OWN)
    rows = {**STAGES, 'total': 'all of it', 'own': own, 'without_model': f'camera, {own}'}
    for name, meaning in rows.items():
        if name in numbers['stages_ms']:
            path.add_row(f'{name}: {meaning}', *spread(numbers['stages_ms'][name]))
    streams = Table('stream', 'Hz', 'lost')
    rates = {'commands': (numbers['command_rate_hz'], ''), 'latents': (numbers['latents_rate_hz'], '')}
    rates |= {name: (camera['rate_hz'], str(camera['lost'])) for name, camera in numbers['cameras'].items()}
    for name, (rate, lost) in rates.items():
        streams.add_row(name, '-' if rate is None else f'{rate:.2f}', lost)
    processes = Table('process', '% of a core', 'MiB', 'growth')
    for name, process in numbers['nodes'].items():
        processes.add_row(name, f'{process["cpu_percent"]:.0f}', f'{process["memory_mib"]:.0f}',
                          f'{process["memory_growth_mib"]:+.1f}')  # fmt: skip
    console = Console()
    for table in (times, path, streams, processes):
        console.print(table)
    chunks = f'{numbers["chunks"]} chunks of {numbers["chunk_motion_ms"]:.0f} ms'
    console.print(f'{chunks}, {numbers["images_per_s"]:.1f} images/s')
