"""Runs the simulated graph during episodes and measures it from its topics, beside a timer with nothing else to do."""

import argparse
import os
import threading
from typing import TYPE_CHECKING, Any

from lingbot_va_ros.commands.graph_options import make_graph, stop_on_signals

if TYPE_CHECKING:
    from lingbot_va_ros.bringup import Bringup
    from lingbot_va_ros.node_benchmark import Monitor

LONGEST_S = 3600.0
BASELINE_S = 3.0
FIRST_CHUNK_S = 60.0


def measure_graph(args: argparse.Namespace) -> dict[str, Any]:
    """Start the graph that the options name, and measure it for `args.seconds`.

    Raises:
        ValueError: an option is not usable.
        RuntimeError: the graph failed, or was ended.
    """
    if not 1 <= args.seconds <= LONGEST_S:
        raise ValueError(f'--seconds is {args.seconds:g}; it must be from 1 to {LONGEST_S:g}')
    if not args.sim:
        raise ValueError('--no-sim: the benchmark would move a robot; leave it out')
    from lingbot_va_ros.ros_domain import free_domain

    os.environ.setdefault('ROS_DOMAIN_ID', str(free_domain()))
    graph = make_graph(args)
    with stop_on_signals(graph):
        return _measure(graph, args)


def _measure(graph: 'Bringup', args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_core.robot import load_profile
    from lingbot_va_ros.graph_parameters import read_parameters
    from lingbot_va_ros.node_benchmark import Monitor, bare_timer
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
            if args.record:
                numbers = _observe_recording(graph, monitor, args, used['robot'])
            else:
                numbers = _observe(graph, monitor, args)
    return {**used, 'seconds': args.seconds, 'cores': os.cpu_count(), 'baseline': baseline, **numbers}


def _observe(graph: 'Bringup', monitor: 'Monitor', args: argparse.Namespace, **others: int) -> dict[str, Any]:
    """Measure for `args.seconds`; `others` are process ids beside the graph's."""
    from lingbot_va_ros.node_benchmark import CpuMeter

    monitor.clear()
    cpu = CpuMeter(graph.pids | others)
    if graph.failed.wait(args.seconds) or graph.stopping:
        _raise(graph, 'interrupted')
    nodes = cpu.report()
    return {**monitor.report(), 'nodes': nodes}


def _observe_recording(graph: 'Bringup', monitor: 'Monitor', args: argparse.Namespace, robot: str) -> dict[str, Any]:
    """Measure with more cameras beside the graph, and again while everything is recorded."""
    from lingbot_va_ros.recording_benchmark import RecordingLoad

    with RecordingLoad(robot, args.namespace) as load:
        numbers = _observe(graph, monitor, args)
        with load.recorder() as pid:
            recorded = _observe(graph, monitor, args, recorder=pid)
        numbers['recording'] = {
            'command_period_ms': recorded['command_period_ms'],
            'recorder': recorded['nodes']['recorder'],
            **load.result(),
        }
    return numbers


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
