"""`lingbot-va up`: brings a graph up and watches it, as `ros2 launch` does on a ROS machine."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingbot_va_ros.commands.graph_options import add_graph_arguments, make_graph, stop_on_signals

if TYPE_CHECKING:
    from lingbot_va_ros.bringup import Bringup

EXAMPLE = 'lingbot-va up --task transfer_cube --mode sync --instruction "transfer the cube" --duration 30'
TASK_LIMIT_S = 60.0
LONGEST_S = 86400.0
LONGEST_INSTRUCTION = 512  # RunTask.action
PARAMETERS_REFUSED = 2  # how a node's process ends whose parameters are refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Start the nodes, bring them to active in order and watch them until Ctrl-C. The graph ends when a node dies.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    add_graph_arguments(parser)
    parser.add_argument('--nodes', nargs='+', default=(), metavar='NODE', help='only these; the others run elsewhere')
    parser.add_argument(
        '--remap', action='append', default=[], metavar='FROM:=TO', help='another name of a topic; may be repeated'
    )
    parser.add_argument('--instruction', metavar='TEXT', help='run this task, then end; exit status 0 if it succeeded')
    parser.add_argument(
        '--duration', type=float, metavar='S',
        help=f'end after S seconds; with --instruction the time limit of the task (default {TASK_LIMIT_S:g})',
    )  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='FILE', help='write what happened to FILE')


def run(args: argparse.Namespace) -> int:
    """Run the graph; 0 when it was up until it was told to end and its task, if any, succeeded."""
    _check(args)
    graph = make_graph(args, only=args.nodes, remaps=args.remap)

    from lingbot_va_ros.bringup import BringupError

    task = None
    try:
        with stop_on_signals(graph):
            try:
                graph.start().wait_until_active()
                if args.instruction is None:
                    graph.wait_until_ended(args.duration or math.inf)
                else:
                    task = _run_task(args, graph)
            finally:
                graph.stop()
        if graph.failure:
            raise graph.failure
    except BringupError as error:
        if error.returncode == PARAMETERS_REFUSED:
            raise ValueError(str(error)) from error
        raise
    finally:
        if args.json:
            from lingbot_va_ros.atomic import write_json

            write_json(args.json, _summary(graph, task))
    return 0 if task is None or task['outcome'] == 'succeeded' else 1


def _check(args: argparse.Namespace) -> None:
    if args.duration is not None and not (math.isfinite(args.duration) and 0 < args.duration <= LONGEST_S):
        raise ValueError(f'--duration is {args.duration:g}; it must be above 0 and at most {LONGEST_S:g} seconds')
    if args.instruction is not None and not 0 < len(args.instruction.encode()) <= LONGEST_INSTRUCTION:
        length = len(args.instruction.encode())
        raise ValueError(f'--instruction has {length} bytes; it must have from 1 to {LONGEST_INSTRUCTION}')


def _run_task(args: argparse.Namespace, graph: 'Bringup') -> dict[str, Any]:
    from dataclasses import asdict

    from lingbot_va_ros.task_client import TaskError, run_task

    limit = args.duration or TASK_LIMIT_S
    print(f"Task '{args.instruction}', at most {limit:g} s.", flush=True)
    try:
        result = run_task(
            args.instruction,
            limit,
            namespace=args.namespace,
            stop=lambda: graph.stopping or graph.failed.is_set(),
            feedback=lambda message: print(f'{message.elapsed.sec} s, {message.chunks} chunks', flush=True),
        )
    except TaskError:
        if graph.failure:  # the reason behind it
            raise graph.failure from None
        raise
    length = f'{result.elapsed_s:.1f} s and {result.chunks} chunks'
    print(f'Task: {result.outcome} after {length}. {result.message}', flush=True)
    return asdict(result)


def _summary(graph: 'Bringup', task: dict[str, Any] | None) -> dict[str, Any]:
    return {
        'nodes': list(graph.pids),
        'seconds_to_active': graph.seconds_to_active,
        'failure': str(graph.failure) if graph.failure else None,
        'task': task,
    }
