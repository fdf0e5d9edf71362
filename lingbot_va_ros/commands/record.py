"""`lingbot-va record`: records a running graph into a rosbag2 bag."""

import argparse
from pathlib import Path

EXAMPLE = 'lingbot-va record --robot aloha --out out/bag --duration 60'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = 'Record every topic of a running graph into a rosbag2 bag (MCAP), until Ctrl-C.'
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--robot', default='aloha', help='robot profile: a name or a YAML file (default: %(default)s)')
    parser.add_argument('--out', type=Path, required=True, help='folder of the new bag')
    parser.add_argument('--duration', type=float, metavar='S', help='stop after so many seconds')
    parser.add_argument('--namespace', default='', help='namespace of the graph')
    parser.add_argument(
        '--queue-mib', type=float, default=64, help='memory for messages that wait for the disk (default: %(default)s)'
    )
    parser.add_argument(
        '--metadata', action='append', default=[], metavar='KEY=VALUE', help='note it in the bag; may be repeated'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the counts of messages and drops to FILE')


def run(args: argparse.Namespace) -> int:
    """Record; the exit status is 0 when the bag is complete and holds everything that arrived."""
    from lingbot_va_core.robot import load_profile, profile_path
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.recorded_topics import recorded_topics
    from lingbot_va_ros.recorder import counts, record

    if args.duration is not None and not args.duration > 0:
        raise ValueError(f'--duration is {args.duration:g}; it must be above 0 seconds')
    if not 0 < args.queue_mib <= 4096:
        raise ValueError(f'--queue-mib is {args.queue_mib:g}; it must be above 0 and at most 4096')
    notes = dict(_pair(text) for text in args.metadata)
    profile = load_profile(args.robot)
    recording = record(
        recorded_topics(profile),
        args.out,
        {'robot': profile.name, 'profile': profile_path(args.robot).read_text(), 'namespace': args.namespace, **notes},
        namespace=args.namespace,
        duration_s=args.duration,
        queue_bytes=int(args.queue_mib * 2**20),
        say=lambda text: print(text, flush=True),
    )
    print(f'wrote {recording.path}: {sum(recording.messages.values())} messages; dropped: {counts(recording.dropped)}')
    if args.json:
        result = {'path': str(recording.path), 'messages': recording.messages, 'dropped': recording.dropped}
        write_json(args.json, result)
    return 1 if recording.dropped else 0


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition('=')
    if not (key and separator):
        raise ValueError(f"--metadata is '{text}'; write KEY=VALUE")
    return key, value
