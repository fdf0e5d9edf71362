"""`lingbot-va convert`: recorded bags become a data set, or are looked at."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_ros.conversion import Conversion

EXAMPLE = 'lingbot-va convert out/demo/bag bags/* --out data/mine'
VERSIONS = {'v3': 'v3.0', 'v2.1': 'v2.1'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Turn bags into a LeRobot data set: what our graph executed, or what a leader commanded. With --check, only '
        'tell what is in each bag and whether it can become training data. What was interrupted goes on when the same '
        'command is given again.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('bags', type=Path, nargs='+', metavar='BAG', help='rosbag2 folders or files (MCAP or SQLite)')
    parser.add_argument('--out', type=Path, metavar='DATASET', help='the data set; it must not exist yet')
    parser.add_argument('--check', action='store_true', help='look at the bags and write nothing')
    parser.add_argument(
        '--format', choices=VERSIONS, default='v3', help='v2.1 is for the released training code (default: %(default)s)'
    )
    parser.add_argument('--robot', help='profile, a name or a YAML file (default: the one that the bag notes)')
    parser.add_argument('--namespace', help='of the recorded graph (default: the one that the bag notes)')
    parser.add_argument('--instruction', help='what was to be done, where a bag does not say it')
    parser.add_argument('--successes', action='store_true', help='leave out what nobody said to have succeeded')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='processes (default: %(default)s)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')


def run(args: argparse.Namespace) -> int:
    """Convert, or check; 0 when the data set is complete, or all bags can become training data."""
    if not 1 <= args.workers <= 256:
        raise ValueError(f'--workers is {args.workers}; it must be from 1 to 256')
    if args.check == (args.out is not None):
        raise ValueError('give either --out DATASET or --check')
    return _check(args) if args.check else _convert(args)


def _check(args: argparse.Namespace) -> int:
    from rich.console import Console

    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.bag import Bag
    from lingbot_va_ros.bag_audit import audit

    reports = []
    console = Console(width=None if sys.stdout.isatty() else 140)
    for path in args.bags:
        with Bag(path, namespace=args.namespace) as bag:
            reports.append(audit(bag, args.robot, args.instruction))
        _show(console, reports[-1])
    if args.json:
        write_json(args.json, reports)
    return 0 if all(report['usable'] for report in reports) else 1


def _show(console: Any, report: dict[str, Any]) -> None:
    """Print the audit of a bag."""
    from rich.table import Table

    from lingbot_va_ros.bag_audit import table_lines

    head, *rows = table_lines(report)
    table = Table(title=f'{report["path"]}: {report["robot"]}, {report["duration_s"]:.1f} s')
    for name in head:
        table.add_column(name, no_wrap=name == 'topic', overflow='fold')
    for row in rows:
        table.add_row(*row)
    console.print(table)
    skews = ', '.join(
        f'{camera} {skew:+.1f} ms' for camera, skew in report['camera_skew_ms'].items() if skew is not None
    )
    if skews:
        print(f'Cameras behind joints, seen from their stamps: {skews}')
    if report['arm_skew_ms']:
        print(f'Arms apart: {report["arm_skew_ms"]["p50"]:.1f} ms, at most {report["arm_skew_ms"]["max"]:.1f} ms')
    for reason in report['reasons']:
        print(f'- {reason}')
    seconds = sum(episode['seconds'] for episode in report['episodes'])
    kind = 'teleoperated' if report['teleoperated'] else 'of our graph'
    if report['usable']:
        print(f'Can become training data: {len(report["episodes"])} episodes {kind}, {seconds:.1f} s of motion')
    else:
        print('Cannot become training data')


def _convert(args: argparse.Namespace) -> int:
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.conversion import Conversion

    began = time.monotonic()
    if args.out.exists():
        raise ValueError(f'{args.out} exists; choose another folder or delete it')
    folder = next(each for each in args.out.absolute().parents if each.exists())
    with Conversion(
        args.bags, args.robot, args.instruction, args.workers, args.successes, args.namespace, folder
    ) as conversion:
        for note in conversion.notes:
            print(note, file=sys.stderr)
        _write(conversion, args.out, VERSIONS[args.format])
        numbers = {
            'path': str(args.out),
            'format': args.format,
            'bags': len(args.bags),
            'episodes': len(conversion.parts),
            'frames': sum(part.frames for part in conversion.parts),
            'held': sum(part.held for part in conversion.parts),
            'bytes': sum(path.stat().st_size for path in args.out.rglob('*') if path.is_file()),
            'left_out': conversion.notes,
            'seconds': round(time.monotonic() - began, 3),
        }
    if args.json:
        write_json(args.json, numbers)
    print(
        f'{args.out}: {numbers["episodes"]} episodes, {numbers["frames"]} video frames, '
        f'{numbers["bytes"] / 2**20:.1f} MiB'
    )
    return 0


def _write(conversion: 'Conversion', out: Path, version: str) -> None:
    """Write what is missing, under a progress bar, and check it."""
    from lingbot_va_core.datasets.checks import check
    from lingbot_va_core.datasets.layout import VERSION
    from lingbot_va_core.datasets.reader import Dataset
    from lingbot_va_ros.progress import episode_progress

    writer = conversion.writer(out, version)
    with episode_progress() as progress:
        bar = progress.add_task('converting', total=len(conversion.parts), completed=len(writer.done()))
        for _ in conversion.write(writer):
            progress.advance(bar)
    dataset = writer.finish(len(conversion.parts))
    if version == VERSION:
        check(Dataset(dataset))
