"""`lingbot-va collect`: demonstrations of a scripted expert in simulation, as a LeRobot data set."""

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_sim.collect import Made

EXAMPLE = 'lingbot-va collect --robot aloha --task transfer_cube --episodes 50 --seed 0 --out data/transfer_cube'
SHEET = 'contact_sheet.png'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Let a scripted expert do a task in simulation and write what it did as a LeRobot v3 data set, with a picture '
        f'of the episodes, {SHEET}. Episode k depends on seed + k alone. What was interrupted goes on when the same '
        'command is given again.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--robot', default='aloha', help='robot profile: a name or a YAML file (default: %(default)s)')
    parser.add_argument('--task', default='transfer_cube', help='task of the simulation (default: %(default)s)')
    parser.add_argument('--episodes', type=int, default=50, metavar='N', help='how many (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='draws the first start (default: %(default)s)')
    parser.add_argument(
        '--policy',
        metavar='CHECKPOINT',
        help='let this policy drive for 1 to 11 s, then the expert: how to go on from where the policy gets to',
    )
    parser.add_argument(
        '--mistake',
        metavar='NAME',
        help='let this go wrong on purpose in every episode, such as beside: the gripper is led beside the cube first',
    )
    parser.add_argument(
        '--disturb',
        metavar='NAME',
        help='disturb every episode, as `lingbot-va eval --disturb` does: reach, grasp or tool',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER', help='the data set; it must not exist yet')
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, metavar='N', help='processes (default: %(default)s)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')


def run(args: argparse.Namespace) -> int:
    """Collect, check and draw; 0 when the data set is complete."""
    if not 1 <= args.workers <= 256:
        raise ValueError(f'--workers is {args.workers}; it must be from 1 to 256')
    if args.episodes < 1:
        raise ValueError(f'--episodes is {args.episodes}; it must be at least 1')

    from lingbot_va_core.datasets.checks import check
    from lingbot_va_core.datasets.reader import Dataset
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_sim.collect import Plan
    from lingbot_va_sim.contact_sheet import write_contact_sheet

    plan = Plan(args.robot, args.task, args.seed, args.out, args.policy, args.mistake, args.disturb)
    writer = plan.writer()
    began = time.monotonic()
    made = _collect(plan, args.episodes, args.workers, len(writer.done() & set(range(args.episodes))))
    seconds = time.monotonic() - began
    dataset = Dataset(writer.finish(args.episodes))
    check(dataset)
    write_contact_sheet(dataset, args.out / SHEET)
    numbers = _numbers(dataset, made, seconds)
    if args.json:
        write_json(args.json, numbers)
    print(
        f'{args.out}: {numbers["episodes"]} episodes, {numbers["motion_s"] / 60:.1f} min of motion, '
        f'{numbers["bytes"] / 2**20:.1f} MiB; {numbers["with_mistakes"]} with a mistake on purpose, '
        f'{numbers["attempts"]} attempts'
    )
    print(f'Have a look: {args.out / SHEET}')
    return 0


def _collect(plan: Any, episodes: int, workers: int, done: int) -> 'list[Made]':
    """Make what is missing, under a progress bar."""
    from lingbot_va_ros.progress import episode_progress
    from lingbot_va_sim.collect import collect

    made = []
    with episode_progress() as progress:
        bar = progress.add_task(plan.task, total=episodes, completed=done)
        for episode in collect(plan, episodes, workers):
            made.append(episode)
            progress.advance(bar)
    return made


def _numbers(dataset: Any, made: 'list[Made]', seconds: float) -> dict[str, Any]:
    """Return what there is to know about a data set that was just completed."""
    notes = [episode.attributes for episode in dataset]
    lengths = [(episode.frames - 1) / episode.spec.fps for episode in dataset]
    mistakes = Counter(note['mistake'] for note in notes if note['mistake'])
    return {
        'episodes': len(dataset),
        'attempts': sum(note['attempt'] + 1 for note in notes),
        'motion_s': round(sum(lengths), 3),
        'longest_s': round(max(lengths), 3),
        'with_mistakes': sum(mistakes.values()),
        'mistakes': dict(sorted(mistakes.items())),
        'bytes': sum(path.stat().st_size for path in dataset.root.rglob('*') if path.is_file()),
        'made_now': len(made),
        'seconds': round(seconds, 3),
    }
