"""`lingbot-va eval`: how often a checkpoint solves a task, in closed loop, in virtual time."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingbot_va_ros.modes import MODES

if TYPE_CHECKING:
    from lingbot_va_sim.evaluation import Episode, Plan

EXAMPLE = 'lingbot-va eval --checkpoint checkpoints/tiny --mode fdm --episodes 100 --seed 90000 --out out/eval'
ALL = 'all'
FILMED = 12
RESULTS = 'results.json'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Let a checkpoint do a task in simulation, with the closed loop, the motion and the command limits of the '
        'graph. Time is virtual: it advances by the stated latency, so that the result is the same on every machine. '
        'Episode k depends on seed + k alone.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--robot', default='aloha', help='robot profile: a name or a YAML file (default: %(default)s)')
    parser.add_argument('--task', default='transfer_cube', help='task of the simulation (default: %(default)s)')
    parser.add_argument(
        '--mode', choices=(*MODES, ALL), default='fdm', help='how chunks follow each other (default: %(default)s)'
    )
    parser.add_argument(
        '--checkpoint',
        help='trained weights: a folder or Hub id; none: an untrained model (default: the checkpoint in the box)',
    )
    parser.add_argument('--preset', default='tiny', help='configuration of a fresh model (default: %(default)s)')
    parser.add_argument('--episodes', type=int, default=50, metavar='N', help='in each mode (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=90000, help='draws the first start (default: %(default)s)')
    parser.add_argument(
        '--latency-ms', type=float, default=100.0, metavar='L', help='time that a chunk takes (default: %(default)s)'
    )
    parser.add_argument('--chunk', type=int, metavar='K', help="latent frames per chunk (default: the checkpoint's)")
    parser.add_argument(
        '--video-s', type=float, metavar='S', help="denoise the video to S, 1 is clean (default: the checkpoint's)"
    )
    parser.add_argument(
        '--disturb',
        nargs='?',
        const='reach',
        choices=('reach', 'grasp', 'tool'),
        help='nudge the object by 5 cm during the reach, or take it out of the gripper after the first lift (grasp), '
        'or push the hand during the reach (tool)',
    )
    parser.add_argument(
        '--time-limit',
        type=float,
        default=20.0,
        metavar='S',
        help='of an episode, in s, from its disturbance on where there is one (default: %(default)s)',
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count() or 1, metavar='W', help='processes (default: %(default)s)'
    )
    parser.add_argument('--device', default='cpu', help='of the model: cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help=f'leave a film of the first {FILMED} episodes and {RESULTS} there'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')


def run(args: argparse.Namespace) -> int:
    """Evaluate, and print the table."""
    if not 1 <= args.workers <= 256:
        raise ValueError(f'--workers is {args.workers}; it must be from 1 to 256')

    from lingbot_va_core.model_card import misfit
    from lingbot_va_core.robot import load_profile
    from lingbot_va_core.shipped import choose_checkpoint, known_training
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_sim.evaluation import Plan
    from lingbot_va_sim.success import summarize
    from lingbot_va_sim.tasks import find_task

    robot, task = load_profile(args.robot).name, find_task(args.task)
    choice = choose_checkpoint(args.checkpoint, args.preset, robot)
    training = known_training(choice.checkpoint)
    notice = choice.notice or misfit(str(choice.checkpoint), training, robot, task.instruction)
    if notice:
        print(f'Note: {notice}.')
    plan = Plan(
        robot=args.robot,
        task=args.task,
        checkpoint=choice.checkpoint,
        preset=args.preset,
        modes=MODES if args.mode == ALL else (args.mode,),
        episodes=args.episodes,
        seed=args.seed,
        latency_ms=args.latency_ms,
        chunk=args.chunk,
        video_s=args.video_s,
        disturbance=args.disturb,
        time_limit_s=args.time_limit,
        device=args.device,
        filmed=FILMED if args.out else 0,
    )
    plan.check()
    episodes = evaluate_shown(plan, args.workers)
    runs = [summarize(plan, [e for e in episodes if e.mode == mode]) for mode in plan.modes]
    numbers = runs[0] if len(runs) == 1 else {'modes': {run['mode']: run for run in runs}}
    if args.out:
        _leave(args.out, plan, episodes)
        write_json(args.out / RESULTS, numbers)
    if args.json:
        write_json(args.json, numbers)
    _print(runs, plan)
    if args.out:
        print(f'films and numbers: {args.out}')
    return 0


def evaluate_shown(plan: 'Plan', workers: int) -> 'list[Episode]':
    """Run all episodes under a progress bar that says how many succeeded so far."""
    from lingbot_va_ros.progress import episode_progress
    from lingbot_va_sim.evaluation import evaluate

    episodes: list[Episode] = []
    with episode_progress() as progress:
        bar = progress.add_task(plan.task, total=plan.episodes * len(plan.modes))
        for episode in evaluate(plan, workers):
            episodes.append(episode)
            solved = sum(each.success for each in episodes)
            progress.update(bar, advance=1, description=f'{plan.task}: {solved} solved of')
    return episodes


def _leave(out: Path, plan: 'Plan', episodes: 'list[Episode]') -> None:
    """Write a film for each mode."""
    from lingbot_va_core.robot import load_profile
    from lingbot_va_sim.episode_film import Shown, write_grid

    out.mkdir(parents=True, exist_ok=True)
    for mode in plan.modes:
        filmed = sorted((e for e in episodes if e.mode == mode and e.film), key=lambda episode: episode.index)
        shown = [Shown(e.film, e.duration_s, e.success, f'{mode}, seed {e.seed}: {_outcome(e)}') for e in filmed]
        write_grid(shown, out / f'{mode}.mp4', load_profile(plan.robot).clock.video_ns)


def _outcome(episode: 'Episode') -> str:
    return f'solved in {episode.completion_s:.1f} s' if episode.success else f'not solved (stage {episode.stage} of 4)'


def _print(runs: list[dict[str, Any]], plan: 'Plan') -> None:
    from rich.console import Console
    from rich.table import Table

    first = runs[0]
    disturbance = f', disturbed ({plan.disturbance})' if plan.disturbance else ''
    table = Table()
    for name in ('mode', 'solved', 'rate', '95 %', 'ever', 'mean', 'median', 'computed in'):
        table.add_column(name, justify='left' if name == 'mode' else 'right')
    for numbers in runs:
        low, high = numbers['confidence_95']
        times = numbers['completion_s']
        table.add_row(
            numbers['mode'],
            f'{numbers["successes"]} of {numbers["episodes"]}',
            f'{100 * numbers["success_rate"]:.0f} %',
            f'{100 * low:.0f} to {100 * high:.0f} %',
            str(numbers['ever_solved']),
            *('-' if times[name] is None else f'{times[name]:.1f} s' for name in ('mean', 'p50')),
            f'{numbers["seconds_per_episode"]:.1f} s',
        )
    console = Console()
    console.print(
        f'{first["robot"]}, {first["task"]}{disturbance}: {first["model"]}, {first["chunk"]} latent frames per chunk, '
        f'{plan.latency_ms:g} ms of latency, seeds from {plan.seed}',
        soft_wrap=True,
    )
    console.print(table)
    for numbers in runs:
        problems = [episode['problem'] for episode in numbers['per_episode'] if episode['problem']]
        if problems:
            print(f'{numbers["mode"]}: {len(problems)} sessions failed, such as: {problems[0]}')
