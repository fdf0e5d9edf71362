"""`lingbot-va results`: measures every row of a suite that is not measured yet, and writes the page of results."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_sim.suite import Row, Table

EXAMPLE = 'lingbot-va results --checkpoint checkpoints/tiny --others out/ablations --page docs/results.md'
SUITE = 'evaluation/tiny.yaml'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Run the evaluations of a suite one after the other, and write their tables as a page and into the card of the '
        'checkpoint. What is measured stays in --out: the same command goes on where it was ended, and measures again '
        'only what has other settings or another checkpoint. A row whose checkpoint is missing is not measured.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--suite', type=Path, metavar='FILE', help=f'rows and tables (default: config/{SUITE})')
    parser.add_argument(
        '--checkpoint', type=Path, metavar='DIR', help='that the suite is about (default: the one in the box)'
    )
    parser.add_argument(
        '--others',
        type=Path,
        default=Path('out/ablations'),
        metavar='DIR',
        help='folder of the other checkpoints, by the names in the suite (default: %(default)s)',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('out/results'), metavar='DIR', help='measurements (default: %(default)s)'
    )
    parser.add_argument('--page', type=Path, metavar='FILE', help='the page (default: results.md in --out)')
    parser.add_argument('--write-only', action='store_true', help='measure nothing, write what is measured')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, metavar='W', help='processes (default: %(default)s)'
    )
    parser.add_argument('--device', default='cpu', help='of the model: cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers to FILE')


def run(args: argparse.Namespace) -> int:
    """Measure, and write."""
    if not 1 <= args.workers <= 256:
        raise ValueError(f'--workers is {args.workers}; it must be from 1 to 256')

    from lingbot_va_core.model_card import write_card
    from lingbot_va_core.resources import share_dir
    from lingbot_va_core.shipped import shipped
    from lingbot_va_core.training.record import portable_command
    from lingbot_va_ros.atomic import replaced, write_json
    from lingbot_va_sim.results_page import results_page
    from lingbot_va_sim.suite import SHIPPED, checkpoint_folder, read_suite

    suite = args.suite or share_dir() / 'config' / SUITE
    own = args.checkpoint or shipped(suite.stem)
    tables = read_suite(suite)
    folders = {row.checkpoint: checkpoint_folder(row, own, args.others) for table in tables for row in table.rows}
    present = _present(tables, folders, args)
    missing = [str(folder) for name, folder in folders.items() if name not in present]
    if missing:
        print(f'Not measured, because there is no checkpoint: {", ".join(missing)}')
    measured = [
        (table, [_measured(table, row, present.get(row.checkpoint), args) for row in table.rows]) for table in tables
    ]
    page = args.page or args.out / 'results.md'
    text = results_page(f'Results of {own.name}', portable_command(args.argv), measured, folders)
    with replaced(page) as temporary:
        temporary.write_text(text)
    numbers = [
        {'label': f'{table.title}: {row.label}, {row.mode}', 'checkpoint_name': row.checkpoint, **each}
        for table, results in measured
        for row, each in zip(table.rows, results, strict=True)
        if each
    ]
    own_numbers = [each for each in numbers if each['checkpoint_name'] == SHIPPED]
    if own_numbers:
        write_card(folders[SHIPPED], own_numbers)
    if args.json:
        write_json(args.json, {'rows': numbers, 'missing': missing})
    count = sum(len(table.rows) for table in tables)
    print(f'{page}: {len(numbers)} of {count} rows are measured')
    return 0


def _present(tables: Sequence['Table'], folders: Mapping[str, Path], args: argparse.Namespace) -> dict[str, Path]:
    """Return the checkpoints that are there, by name; refuse what cannot be run before anything is."""
    from lingbot_va_core.checkpoint import is_checkpoint
    from lingbot_va_core.model_card import read_document

    present = {name: folder for name, folder in folders.items() if is_checkpoint(folder)}
    for folder in present.values():
        read_document(folder)  # of which the page has the facts
    if not args.write_only:
        for row in (row for table in tables for row in table.rows if row.checkpoint in present):
            row.plan(present[row.checkpoint], args.device).check()
    return present


def _measured(
    table: 'Table', row: 'Row', checkpoint: Path | None, args: argparse.Namespace
) -> Mapping[str, Any] | None:
    """Return the numbers of a row, measured now or earlier; None without its checkpoint."""
    from lingbot_va_core.hardware import describe_hardware
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.commands.eval import evaluate_shown
    from lingbot_va_sim.success import summarize
    from lingbot_va_sim.suite import measurement_key

    if checkpoint is None:
        return None
    path = args.out / f'{row.mode}-{measurement_key(row, checkpoint)}.json'
    if path.is_file():
        return json.loads(path.read_text())
    if args.write_only:
        return None
    print(f'{table.title}: {row.label}, {row.mode}', flush=True)
    plan = row.plan(checkpoint, args.device)
    numbers = summarize(plan, evaluate_shown(plan, args.workers))
    numbers |= {
        'checkpoint': checkpoint.name,
        'date': date.today().isoformat(),
        'hardware': {**describe_hardware(args.device), 'workers': args.workers},
    }
    write_json(path, numbers)
    return numbers
