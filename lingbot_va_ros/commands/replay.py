"""`lingbot-va replay`: feeds a recorded run to a world model again, or shows it."""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_core.robot import RobotProfile
    from lingbot_va_core.world_model import WorldModel
    from lingbot_va_ros.bag import Bag
    from lingbot_va_ros.recorded_run import RecordedRun
    from lingbot_va_ros.replay import Replayed

EXAMPLE = 'lingbot-va replay out/demo/bag --checkpoint out/policy --out out/replay'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Feed a recorded run to the model that drove it, and compare the chunks: the exit status is 0 when they are '
        'identical to the bit. With --checkpoint, tell what another model would have imagined and done: nothing moves.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('bag', type=Path, help='folder of a recorded bag')
    parser.add_argument('--robot', help='robot profile, a name or a YAML file (default: the one that the bag notes)')
    parser.add_argument('--checkpoint', help='another model: a folder or a Hub id')
    parser.add_argument('--device', help='torch device, such as cpu or cuda:0 (default: as recorded)')
    parser.add_argument('--episode', type=int, metavar='N', help='number of a single episode of the graph')
    parser.add_argument('--out', type=Path, metavar='DIR', help='write pictures: imagined above real video, actions')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')
    shown = parser.add_argument_group('seeing', 'instead of a replay; imagined video is decoded by the recorded model')
    shown = shown.add_mutually_exclusive_group()
    shown.add_argument('--view', action='store_true', help="open Rerun's window (requirements-view.txt, a screen)")
    shown.add_argument('--rrd', type=Path, metavar='FILE', help='write what --view shows, for Rerun elsewhere')
    shown.add_argument(
        '--foxglove', type=Path, metavar='DIR', help='write a layout for Foxglove, and the imagined video as a bag'
    )


def run(args: argparse.Namespace) -> int:
    """Replay; the exit status is 0 when the chunks are identical, or when another model was evaluated on an episode."""
    import torch

    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.bag import Bag
    from lingbot_va_ros.recorded_run import runs_in_bag
    from lingbot_va_ros.replay import ReplayError

    shown = _shown(args)
    with Bag(args.bag) as bag:
        # With another number of threads, sums would be rounded differently.
        torch.set_num_threads(int(bag.notes.get('torch_threads', 1)))
        profile = bag.profile(args.robot)
        if shown:
            _show(args, bag, profile)
            return 0
        runs = runs_in_bag(bag, profile)
        if args.episode is not None:
            runs = [each for each in runs if each.episode == args.episode]
            if not runs:
                raise ValueError(f'--episode is {args.episode}; {bag.path} has no chunk of such an episode')
        model = _model(args, bag, profile, runs)
        results, seen = [], Counter()
        for each in runs:
            seen[each.episode] += 1  # graphs that were started again count again
            again = f'_{seen[each.episode]}' if seen[each.episode] > 1 else ''
            pictures = args.out and args.out / f'episode_{each.episode}{again}'
            try:
                results.append(_replay(args, bag, profile, each, model, pictures))
            except ReplayError as error:
                if len(runs) == 1:
                    raise
                print(f'episode {each.episode}: {error}')
                results.append(
                    {'episode': each.episode, 'announced_ns': each.begin_ns, 'identical': False, 'error': str(error)}
                )
    identical = all(result['identical'] for result in results)
    if args.json:
        write_json(
            args.json,
            {'bag': str(args.bag), 'model': model.name, 'identical': identical, 'episodes': results},
        )
    evaluated = args.checkpoint and any('error' not in result for result in results)
    return 0 if identical or evaluated else 1


def _shown(args: argparse.Namespace) -> bool:
    """Return whether a recording is to be seen; raises ValueError for options that would have no meaning then."""
    how = '--view' if args.view else '--rrd' if args.rrd else '--foxglove' if args.foxglove else ''
    others = [name for name in ('checkpoint', 'episode', 'out', 'json') if getattr(args, name) is not None]
    if how and others:
        raise ValueError(f'{how} shows the recording instead of replaying it; leave out --{", --".join(others)}')
    return bool(how)


def _show(args: argparse.Namespace, bag: 'Bag', profile: 'RobotProfile') -> None:
    """Open or write what people look at."""
    from lingbot_va_ros.replay_foxglove import write_foxglove
    from lingbot_va_ros.replay_view import view, write_rrd

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if args.view:
        view(bag, profile, args.device, say)
    elif args.rrd:
        write_rrd(bag, profile, args.device, args.rrd, say)
    else:
        write_foxglove(bag, profile, args.device, args.foxglove, say)


def _model(args: argparse.Namespace, bag: 'Bag', profile: 'RobotProfile', runs: list['RecordedRun']) -> 'WorldModel':
    from lingbot_va_core.checkpoint import load_model
    from lingbot_va_core.devices import AUTO, dtype_of, usable_device
    from lingbot_va_ros.recorded_model import load_noted_model

    if args.checkpoint is None:
        return load_noted_model(bag.notes, profile, {each.model for run in runs for each in run.chunks}, args.device)
    device = usable_device(args.device or bag.notes.get('device', 'cpu'))
    return load_model(args.checkpoint, profile=profile, device=device, dtype=dtype_of(AUTO, device))


def _replay(
    args: argparse.Namespace,
    bag: 'Bag',
    profile: 'RobotProfile',
    run: 'RecordedRun',
    model: 'WorldModel',
    pictures: Path | None,
) -> dict[str, Any]:
    """Replay one episode, tell people, and return its numbers; the names of its pictures begin with `pictures`."""
    from lingbot_va_core.session import Session
    from lingbot_va_ros.inference import warm_up
    from lingbot_va_ros.recorded_run import encoded_latents
    from lingbot_va_ros.replay import (
        difference,
        recorded_steps,
        replay,
        require_pose_frame,
        same_frames,
        synchronous_steps,
    )
    from lingbot_va_ros.replay_evaluation import evaluate

    require_pose_frame(run, model.config.rollout.relative_poses, profile.mask)
    if args.checkpoint or not run.latents:  # each model sees with its own VAE
        run.latents = encoded_latents(bag, profile, run, model)
    frames = model.config.rollout.chunk_frames
    alike = same_frames(run, frames)
    steps = recorded_steps(run) if alike else synchronous_steps(run, frames)
    session = Session(model, run.mode if alike else 'sync', int(bag.notes.get('noise_seed', 0)))
    if args.checkpoint:
        warm_up(model, session.mode)  # as the nodes do, so that latencies are theirs
    chunks = list(replay(run, session, steps))
    found = [difference(run, each) for each in chunks] if alike else []
    result = {
        'episode': run.episode,
        'announced_ns': run.begin_ns,
        'mode': session.mode,
        'identical': bool(found) and all(each.identical for each in found),
        'same_actions': bool(found) and all(each.same_actions for each in found),
        'same_context': bool(found) and all(each.same_context for each in found),
        'largest_action_difference': max((each.actions for each in found), default=None),
        'largest_latent_difference': max((each.latents for each in found if each.latents is not None), default=None),
        'imagined_frames': sum(len(each.frames) for each in chunks),
        'imagined_frames_compared': sum(each.compared for each in found),
        **evaluate(run, chunks, profile),
        'pixel_error': None,
        'pixel_change': None,
    }
    if args.checkpoint or pictures:
        result['pixel_error'], result['pixel_change'] = _look(pictures, bag, profile, run, model, chunks)
    _tell(result)
    return result


def _look(
    pictures: Path | None,
    bag: 'Bag',
    profile: 'RobotProfile',
    run: 'RecordedRun',
    model: 'WorldModel',
    chunks: list['Replayed'],
) -> tuple[float | None, float | None]:
    """Return the mean error of imagined images, and of still ones, in levels of 0 to 255; write pictures of them."""
    import numpy as np

    from lingbot_va_ros.recorded_run import video_frames
    from lingbot_va_ros.replay_evaluation import compared_frames
    from lingbot_va_ros.replay_pictures import ComparisonSheet, write_curves

    sheet = ComparisonSheet(profile, sum(index in run.latents for each in chunks for index in each.frames))
    found = []
    for frame in compared_frames(chunks, run, video_frames(bag, profile, run), model):
        found.append((frame.error, frame.change))
        sheet.add(frame)
    if pictures:
        write_curves(run, chunks, profile, pictures.with_name(f'{pictures.name}_actions.png'))
        if found:
            sheet.write(pictures.with_name(f'{pictures.name}_video.png'))
    return tuple(np.mean(found, axis=0).tolist()) if found else (None, None)


def _tell(result: dict[str, Any]) -> None:
    def number(value: float | None) -> str:
        return 'unknown' if value is None else f'{value:.4g}'

    print(f'episode {result["episode"]}: {result["chunks"]} chunks in mode {result["mode"]}')
    if result['identical']:
        print(f'  identical to what was recorded, with all {result["imagined_frames"]} imagined frames')
    elif result['same_actions']:
        compared = result['imagined_frames_compared']
        few = (
            f'only {compared} of {result["imagined_frames"]} imagined frames were'
            if compared
            else 'imagined frames not'
        )
        print(f'  actions identical; {few} recorded')
    elif result['largest_action_difference'] is not None:
        print(
            f'  differs from what was recorded by at most {number(result["largest_action_difference"])} in actions, '
            f'{number(result["largest_latent_difference"])} in latents'
            + ('' if result['same_context'] else '; contexts differ as well')
        )
    print(
        f'  imagined latents: error {number(result["latent_error"])} (recorded '
        f'{number(result["recorded_latent_error"])}, a still picture {number(result["change"])})'
    )
    if result['pixel_error'] is not None:
        still = number(result['pixel_change'])
        print(f'  imagined images: error {number(result["pixel_error"])} of 255 (a still picture {still})')
    for name, distance in result['action_distance'].items():
        then = result['recorded_action_distance'][name]
        print(f'  {name}: {number(distance)} from what was executed (recorded {number(then)})')
    latency, then = result['latency_ms'], result['recorded_latency_ms']
    print(f'  a chunk takes {latency["p50"]:.0f} ms, at most {latency["max"]:.0f} ms (recorded {then["p50"]:.0f} ms)')
