"""`lingbot-va checkpoint`: converts a checkpoint to another layout, type or variant."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_core.normalization import ActionNormalizer
    from lingbot_va_core.world_model import WorldModel

EXAMPLE = (
    'lingbot-va checkpoint robbyant/lingbot-va-posttrain-robotwin --rollout robotwin --quantiles stats.json --out model'
)
FORMATS = ('own', 'released', 'lerobot')
DTYPES = ('float32', 'bfloat16', 'float16')
CHANNELS = re.compile(r'\d+(-\d+)?(,\d+(-\d+)?)*')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Convert a checkpoint of any layout (ours, robbyant/lingbot-va-*, lerobot/lingbot_va_*) to another, whole or '
        'not at all. Every weight keeps its bits and its type unless --dtype says otherwise.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('source', metavar='SOURCE', help='folder or Hub id')
    parser.add_argument('--out', type=Path, required=True, metavar='FOLDER', help='an older checkpoint is replaced')
    parser.add_argument('--format', choices=FORMATS, default='own', help='layout of FOLDER (default: %(default)s)')
    parser.add_argument(
        '--variant', choices=('mot',), help='give a model of one shared expert an action expert, to be post-trained'
    )
    parser.add_argument('--dtype', choices=DTYPES, help='of the transformer; the VAE is float32 then')
    given = parser.add_argument_group('what a released folder does not say')
    given.add_argument(
        '--rollout', metavar='NAME', help='how it is run: robotwin, franka, demo or libero (default: as SOURCE says)'
    )
    given.add_argument(
        '--quantiles',
        type=Path,
        metavar='FILE',
        help='JSON with q01 and q99 of the actions: meta/stats.json of a LeRobot data set, or config.json of a '
        'checkpoint of ours',
    )
    given.add_argument(
        '--channels',
        metavar='LIST',
        help='of the values in FILE, in their order, such as 14-19,28,21-26,29 (default: those of --rollout)',
    )
    given.add_argument('--text-encoder', metavar='SOURCE', help='folder or Hub id with text_encoder/ and tokenizer/')
    given.add_argument(
        '--instruction',
        action='append',
        default=[],
        metavar='TEXT',
        help='store its embedding, so that the robot needs no text encoder; may be repeated',
    )
    given.add_argument('--cameras', nargs='+', metavar='NAME', help="LeRobot's names of the images, for lerobot")
    parser.add_argument('--json', type=Path, metavar='FILE', help='write what was converted to FILE')


def run(args: argparse.Namespace) -> int:
    """Convert, and print what came of it."""
    _check(args)
    import torch

    from lingbot_va_core.checkpoint import load_model, save_checkpoint
    from lingbot_va_core.expert_initialization import with_action_expert
    from lingbot_va_core.presets import rollout_preset
    from lingbot_va_core.text import remember
    from lingbot_va_ros.atomic import write_json

    preset = rollout_preset(args.rollout) if args.rollout else None
    channels = _channels(args.channels) if args.channels else preset and preset.channels
    model = load_model(
        args.source,
        dtype=getattr(torch, args.dtype) if args.dtype else None,
        rollout=preset and preset.rollout,
        normalizer=_normalizer(args, channels),
    )
    if args.text_encoder:
        model = _with_text_encoder(model, args.text_encoder)
    if args.variant:
        model = with_action_expert(model)
    if args.instruction:
        model.text = remember(model.text, args.instruction)
    save_checkpoint(model, args.out, args.format, args.cameras or (preset and preset.cameras))
    description = _describe(model, args)
    print(
        f'{args.out}: {description["name"]} in the layout {args.format}, {description["variant"]}, '
        f'{description["parameters"] / 1e6:.2f} M parameters of the transformer in {description["dtype"]}, '
        f'{description["bytes"] / 2**20:.1f} MiB'
    )
    if args.json:
        write_json(args.json, description)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything large is read."""
    if args.out.resolve() == Path(args.source).resolve():
        raise ValueError(f'--out {args.out} is the source; choose another folder')
    if args.format != 'own' and (args.variant or args.instruction):
        option = '--variant' if args.variant else '--instruction'
        raise ValueError(f'{option} needs --format own; the layout {args.format} has no place for what it adds')
    if args.cameras and args.format != 'lerobot':
        raise ValueError(f'--cameras needs --format lerobot; the layout {args.format} has no names of cameras')


def _normalizer(args: argparse.Namespace, channels: tuple[int, ...] | None) -> 'ActionNormalizer | None':
    from lingbot_va_core.normalization import ActionNormalizer
    from lingbot_va_core.quantiles import read_quantiles
    from lingbot_va_core.robot import ACTION_DIM

    if args.quantiles:
        return read_quantiles(args.quantiles, channels)
    if args.format == 'released':  # which has no place for any
        return ActionNormalizer((-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, (True,) * ACTION_DIM)
    return None


def _channels(text: str) -> tuple[int, ...]:
    if not CHANNELS.fullmatch(text):
        raise ValueError(f"--channels is '{text}'; give numbers and ranges such as 14-19,28,21-26,29")
    spans = [[int(end) for end in part.split('-')] for part in text.split(',')]
    return tuple(channel for span in spans for channel in range(span[0], span[-1] + 1))


def _with_text_encoder(model: 'WorldModel', source: str) -> 'WorldModel':
    from dataclasses import replace

    from lingbot_va_core.text import KnownPrompts
    from lingbot_va_core.world_model import build_text_encoder

    config = replace(model.config, text=replace(model.config.text, source=source))
    known = model.text.table if isinstance(model.text, KnownPrompts) else None
    return replace(model, config=config, text=build_text_encoder(config, known))


def _describe(model: 'WorldModel', args: argparse.Namespace) -> dict[str, Any]:
    return {
        'source': args.source,
        'out': str(args.out),
        'format': args.format,
        'name': model.name,
        'variant': 'shared' if model.config.transformer.action is None else 'mot',
        'dtype': str(model.dtype).removeprefix('torch.'),
        'parameters': sum(weight.numel() for weight in model.transformer.parameters()),
        'bytes': sum(file.stat().st_size for file in args.out.rglob('*') if file.is_file()),
        'rollout': model.config.to_dict()['rollout'],
    }
