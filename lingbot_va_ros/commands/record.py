"""`lingbot-va record`: records a running graph into a rosbag2 bag."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingbot_va_ros.recorder import Recording

EXAMPLE = 'lingbot-va record --robot aloha --out out/bag --duration 60'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = 'Record every topic of a running graph into a rosbag2 bag (MCAP), until Ctrl-C or the key q.'
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--robot', default='aloha', help='robot profile: a name or a YAML file (default: %(default)s)')
    parser.add_argument('--out', type=Path, help='folder of the new bag')
    parser.add_argument('--duration', type=float, metavar='S', help='stop after so many seconds')
    parser.add_argument('--namespace', default='', help='namespace of the graph')
    parser.add_argument('--use-sim-time', action='store_true', help='stamp events with the time of /clock')
    parser.add_argument('--no-latents', action='store_true', help='leave out what can be encoded from the images again')
    parser.add_argument(
        '--imagined-video', action='store_true', help='also record what is imagined as images, which must be decoded'
    )
    parser.add_argument(
        '--queue-mib', type=float, default=64, help='memory for messages that wait for the disk (default: %(default)s)'
    )
    parser.add_argument(
        '--metadata', action='append', default=[], metavar='KEY=VALUE', help='note it in the bag; may be repeated'
    )
    parser.add_argument(
        '--recover', type=Path, metavar='FOLDER', help='instead, make a bag of what a killed recorder left (*.partial)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the counts of messages and drops to FILE')


def run(args: argparse.Namespace) -> int:
    """Record; the exit status is 0 when the bag is complete and holds everything that arrived."""
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.recorder import counts

    if args.recover is not None:
        result, complete = _recover(args.recover, args.out)
    elif args.out is None:
        raise ValueError('--out is missing; name the folder of the new bag')
    else:
        recording = _record(args)
        total, dropped = sum(recording.messages.values()), recording.dropped
        print(f'wrote {recording.path}: {total} messages; dropped: {counts(dropped)}')
        result = asdict(recording) | {'path': str(recording.path)}
        complete = not dropped
    if args.json:
        write_json(args.json, result)
    return 0 if complete else 1


def _record(args: argparse.Namespace) -> 'Recording':
    from lingbot_va_core.robot import load_profile, profile_path
    from lingbot_va_ros.recorded_topics import recorded_topics
    from lingbot_va_ros.recorder import record

    if args.duration is not None and not args.duration > 0:
        raise ValueError(f'--duration is {args.duration:g}; it must be above 0 seconds')
    if not 0 < args.queue_mib <= 4096:
        raise ValueError(f'--queue-mib is {args.queue_mib:g}; it must be above 0 and at most 4096')
    notes = dict(_pair(text) for text in args.metadata)
    profile = load_profile(args.robot)
    return record(
        recorded_topics(profile, latents=not args.no_latents, imagined_video=args.imagined_video),
        args.out,
        {'robot': profile.name, 'profile': profile_path(args.robot).read_text(), 'namespace': args.namespace, **notes},
        namespace=args.namespace,
        duration_s=args.duration,
        queue_bytes=int(args.queue_mib * 2**20),
        use_sim_time=args.use_sim_time,
        say=lambda text: print(text, flush=True),
    )


def _recover(folder: Path, out: Path | None) -> tuple[dict[str, object], bool]:
    from lingbot_va_ros.bag_recovery import recover_bag

    if out is None and folder.suffix != '.partial':
        raise ValueError(f'--out is missing; name the folder of the bag that is made of {folder}')
    recovered = recover_bag(folder, out or folder.with_suffix(''))
    lost = f'; {recovered.lost_bytes} bytes could not be read' if recovered.lost_bytes else ''
    print(f'wrote {recovered.path}: {recovered.messages} messages{lost}')
    return asdict(recovered) | {'path': str(recovered.path)}, True


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition('=')
    if not (key and separator):
        raise ValueError(f"--metadata is '{text}'; write KEY=VALUE")
    return key, value
