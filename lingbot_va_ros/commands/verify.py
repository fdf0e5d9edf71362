"""`lingbot-va verify`: replays a rollout of the released code and compares every cycle."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_core.golden import GoldenRollout, ReplayErrors

EXAMPLE = 'lingbot-va verify path/to/golden/width3 --tolerance 1e-4 --json out/verify.json'
DTYPES = ('float32', 'bfloat16', 'float16')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Replay a recorded rollout of the released code, from its images, noise and prompt, and compare what is '
        'predicted. Fails with status 1 where an error is above the tolerance.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='config.json, transformer, vae and rollout')
    parser.add_argument(
        '--tolerance', type=float, default=1e-4, help='largest error, relative to the largest value (default: 1e-4)'
    )
    parser.add_argument('--device', default='cpu', help='where the model runs, such as cuda (default: %(default)s)')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='of the transformer (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the errors to FILE')


def run(args: argparse.Namespace) -> int:
    """Replay, print the errors of each cycle, and return 1 where one is above the tolerance."""
    if not (math.isfinite(args.tolerance) and args.tolerance > 0):
        raise ValueError(f'--tolerance is {args.tolerance}; it must be above 0')
    import torch

    from lingbot_va_core.devices import usable_device
    from lingbot_va_core.golden import load_golden, replay
    from lingbot_va_ros.atomic import write_json

    golden = load_golden(args.folder, usable_device(args.device), getattr(torch, args.dtype))
    errors = replay(golden)
    passed = errors.largest <= args.tolerance
    for line in _lines(golden, errors, args):
        print(line)
    if args.json:
        write_json(args.json, _document(errors, args, passed))
    return 0 if passed else 1


def _lines(golden: 'GoldenRollout', errors: 'ReplayErrors', args: argparse.Namespace) -> list[str]:
    rollout = golden.model.config.rollout
    return [
        f'{args.folder}: {golden.cycles} cycles of {rollout.chunk_frames} latent frames, {rollout.cameras} cameras '
        f'({rollout.camera_layout}), {args.dtype} on {args.device}',
        'relative error   latents   actions',
        f'observation     {errors.init_latent:8.1e}',
        *(f'cycle {i:<10}{cycle.latents:8.1e}  {cycle.actions:8.1e}' for i, cycle in enumerate(errors.cycles)),
        f'largest         {errors.largest:8.1e}, tolerance {args.tolerance:g}: '
        + ('agrees' if errors.largest <= args.tolerance else 'DIFFERS'),
    ]


def _document(errors: 'ReplayErrors', args: argparse.Namespace, passed: bool) -> dict[str, Any]:
    """The errors as JSON; null where a value is not finite."""

    def number(error: float) -> float | None:
        return error if math.isfinite(error) else None

    return {
        'folder': str(args.folder),
        'device': args.device,
        'dtype': args.dtype,
        'tolerance': args.tolerance,
        'passed': passed,
        'largest': number(errors.largest),
        'init_latent': number(errors.init_latent),
        'cycles': [{'latents': number(c.latents), 'actions': number(c.actions)} for c in errors.cycles],
    }
