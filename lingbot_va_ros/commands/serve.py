"""`lingbot-va serve`: a policy server for clients of the released model, without ROS."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingbot_va_ros.serving.policy_server import PolicyServer
    from lingbot_va_ros.serving.policy_session import Policy

EXAMPLE = 'lingbot-va serve --checkpoint lerobot/lingbot_va_robotwin --preset robotwin --device cuda'
LOOPBACK = ('127.0.0.1', '::1', 'localhost')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Serve a model to clients that speak the wire protocol of the released server (websocket, msgpack): those of '
        'RoboTwin, LIBERO and real robots. Ends with Ctrl-C.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('--checkpoint', required=True, metavar='SOURCE', help='folder or Hub id, in any layout')
    trained_for = parser.add_mutually_exclusive_group(required=True)
    trained_for.add_argument(
        '--preset', metavar='NAME', help='how it is run, its cameras and channels: robotwin, franka, demo or libero'
    )
    trained_for.add_argument(
        '--robot',
        metavar='NAME|FILE',
        help='cameras and channels of a robot profile; the checkpoint says how it is run',
    )
    parser.add_argument(
        '--quantiles', type=Path, metavar='FILE', help='of the actions, for a folder of robbyant, which has none (JSON)'
    )
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: %(default)s)')
    parser.add_argument('--port', type=int, default=29056, help='0: a free one (default: %(default)s)')
    parser.add_argument('--api-key-file', type=Path, metavar='FILE', help='clients must send the key in FILE')
    parser.add_argument(
        '--sessions', type=int, default=4, metavar='N', help='clients at a time; each takes memory (default: 4)'
    )
    parser.add_argument(
        '--max-message-mib', type=int, default=192, metavar='M', help='longest request (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the noise (default: %(default)s)')
    parser.add_argument('--device', default='cpu', help='where the model runs, such as cuda (default: %(default)s)')
    parser.add_argument(
        '--dtype',
        choices=('auto', 'float32', 'bfloat16'),
        default='auto',
        help='of the transformer; auto: bfloat16 on a GPU, float32 on the CPU',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write address and metadata to FILE once it listens')


def run(args: argparse.Namespace) -> int:
    """Serve until asked to end."""
    _check(args)
    api_key = _api_key(args.api_key_file) if args.api_key_file else None

    import asyncio
    import logging

    from lingbot_va_ros.serving.policy_server import PolicyServer
    from lingbot_va_ros.serving.warm_up import warm_up

    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(message)s')
    logging.getLogger('websockets.server').setLevel(logging.CRITICAL)  # has a traceback for every port that is probed
    policy = _load(args)
    seconds = warm_up(policy)
    print(f'{policy.model.name}: a chunk takes {seconds:.2f} s', flush=True)
    if api_key is None and args.host not in LOOPBACK:
        logging.warning('everyone who reaches %s:%d can use the model; give --api-key-file', args.host, args.port)
    server = PolicyServer(policy, args.seed, args.sessions, args.max_message_mib, api_key)
    asyncio.run(_serve(server, policy, args))
    return 0


async def _serve(server: 'PolicyServer', policy: 'Policy', args: argparse.Namespace) -> None:
    import asyncio

    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.signals import ASKED_TO_END

    end = asyncio.Event()
    for number in ASKED_TO_END:
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    async with server.listening(args.host, args.port) as port:
        print(f'listening on ws://{args.host}:{port}', flush=True)
        if args.json:
            write_json(args.json, {'host': args.host, 'port': port, **policy.metadata()})
        await end.wait()
        print('ending', flush=True)


def _check(args: argparse.Namespace) -> None:
    limits = (('port', 0, 65535), ('sessions', 1, 256), ('max_message_mib', 1, 1024), ('seed', 0, 2**31 - 1))
    for name, lower, upper in limits:
        value = getattr(args, name)
        if not lower <= value <= upper:
            raise ValueError(f'--{name.replace("_", "-")} is {value}; it must be from {lower} to {upper}')


def _api_key(path: Path) -> str:
    """Read the key: one line of visible ASCII, as it must fit into an HTTP header."""
    try:
        key = path.read_text(encoding='ascii').strip()
    except UnicodeDecodeError as error:
        raise ValueError(f'the API key in {path} is not ASCII; choose letters, digits and punctuation') from error
    if not key or not all('!' <= character <= '~' for character in key):
        raise ValueError(f'{path} must hold one API key of visible ASCII characters, and nothing else')
    return key


def _load(args: argparse.Namespace) -> 'Policy':
    from lingbot_va_core.checkpoint import load_model
    from lingbot_va_core.devices import dtype_of, usable_device
    from lingbot_va_core.presets import rollout_preset
    from lingbot_va_core.quantiles import read_quantiles
    from lingbot_va_core.robot import load_profile
    from lingbot_va_ros.serving.policy_session import Policy

    device = usable_device(args.device)
    preset, profile = None, None
    if args.preset:
        preset = rollout_preset(args.preset)
        cameras, channels = preset.cameras, preset.channels
    else:
        profile = load_profile(args.robot)
        cameras = tuple(camera.name for camera in profile.cameras)
        channels = tuple(profile.channels.tolist())
    model = load_model(
        args.checkpoint,
        profile=profile,
        device=device,
        dtype=dtype_of(args.dtype, device),
        rollout=preset and preset.rollout,
        normalizer=read_quantiles(args.quantiles, channels) if args.quantiles else None,
    )
    return Policy(model, cameras, channels)
