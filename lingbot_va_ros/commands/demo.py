"""`lingbot-va demo`: one recorded episode in simulation, with numbers and a film."""

import argparse
import math
from pathlib import Path

from lingbot_va_ros.commands.graph_options import add_graph_arguments, make_graph

EXAMPLE = 'lingbot-va demo --robot aloha --task transfer_cube --seconds 30 --out out/demo --mode sync --seed 0'
LONGEST_S = 3600.0
LONGEST_INSTRUCTION = 512  # RunTask.action


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Bring the whole graph up against the embedded simulator, run one episode, record it, and make a table, a film '
        'and summary.json from the recording.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    add_graph_arguments(parser)
    parser.add_argument('--seconds', type=float, default=30.0, help='time limit of the episode (default: %(default)g)')
    parser.add_argument('--instruction', metavar='TEXT', help="left out: the task's own")
    parser.add_argument('--out', type=Path, default=Path('out/demo'), help='folder for results (default: %(default)s)')
    parser.add_argument('--view', action='store_true', help='watch it live (needs a screen and requirements-view.txt)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the summary to FILE, too')


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when the episode ran to its end, successful or not, and its record is complete."""
    if not (math.isfinite(args.seconds) and 1 <= args.seconds <= LONGEST_S):
        raise ValueError(f'--seconds is {args.seconds:g}; it must be from 1 to {LONGEST_S:g}')
    if not args.sim:
        raise ValueError('--no-sim: the demo is a simulation; for a robot use `lingbot-va up` and `lingbot-va record`')
    if args.instruction is not None and not 0 < len(args.instruction.encode()) <= LONGEST_INSTRUCTION:
        length = len(args.instruction.encode())
        raise ValueError(f'--instruction has {length} bytes; it must have from 1 to {LONGEST_INSTRUCTION}')
    if args.out.exists() and not (args.out.is_dir() and _replaceable(args.out)):
        raise ValueError(f'--out is {args.out}, which holds something else than an earlier demo; choose another folder')

    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.demo import DemoOptions, run_demo
    from lingbot_va_ros.demo_table import print_summary

    options = DemoOptions(args.seconds, args.out, args.namespace, args.instruction, args.view)
    summary = run_demo(lambda log: make_graph(args, log), options)
    print_summary(summary, args.out)
    if args.json:
        write_json(args.json, summary)
    return 0


def _replaceable(folder: Path) -> bool:
    """Whether a folder is empty or the result of a demo."""
    return (folder / 'summary.json').is_file() or not any(folder.iterdir())
