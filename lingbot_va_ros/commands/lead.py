"""`lingbot-va lead`: a scripted expert leads the simulated robot of a running graph while that is recorded."""

import argparse
from dataclasses import asdict
from pathlib import Path

EXAMPLE = 'lingbot-va lead --episodes 20'
MOST = 10000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Lead the simulated robot as a person with leader arms would: a scripted expert sends its motion on the topics '
        'of the arms. The robot is `lingbot-va up --nodes sim_bridge`, and beside it `lingbot-va record` records. Each '
        'demonstration begins from the next start that the simulation draws, and is marked in the recording; one that '
        'fails is discarded there.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--episodes', type=int, default=10, metavar='N', help='how many (default: %(default)s)')
    parser.add_argument('--namespace', default='', help='namespace of the graph')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write what was done to FILE')


def run(args: argparse.Namespace) -> int:
    """Lead; 0 when at least one demonstration did the task."""
    if not 1 <= args.episodes <= MOST:
        raise ValueError(f'--episodes is {args.episodes}; it must be from 1 to {MOST}')

    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.leader import Leader
    from lingbot_va_ros.ros_environment import apply_ros_defaults
    from lingbot_va_ros.signals import when_asked_to_end

    apply_ros_defaults()
    done = []
    with when_asked_to_end(_interrupt), Leader(args.namespace) as leader:
        for number in range(1, args.episodes + 1):
            done.append(leader.lead())
            outcome = 'solved' if done[-1].solved else 'failed and discarded'
            print(f'{number}: {leader.task} from seed {done[-1].seed}, {done[-1].seconds:.1f} s, {outcome}', flush=True)
        task = leader.task
    solved = sum(each.solved for each in done)
    if args.json:
        write_json(args.json, {'task': task, 'solved': solved, 'demonstrations': [asdict(each) for each in done]})
    print(f'{solved} of {len(done)} demonstrations did the task')
    return 0 if solved else 1


def _interrupt() -> None:
    """End as Ctrl-C does, however one is asked to: half a demonstration is discarded."""
    raise KeyboardInterrupt
