"""`lingbot-va bench`: measures speed and memory, each beside a baseline of the same run."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingbot_va_ros.commands.graph_options import add_graph_arguments

if TYPE_CHECKING:
    import torch

EXAMPLE = 'lingbot-va bench chunk --preset tiny --json out/chunk.json'
PRESETS = 'tiny, tiny-shared, lingbot-va-shared-5b, lingbot-va-mot-5b, or a size between such as lingbot-va-mot-2x256'
SUITE = 'benchmarks/cpu.yaml'
MEASUREMENTS = {
    'chunk': 'one closed-loop cycle, against the released way of running the same weights',
    'cache': 'a forward behind histories of different lengths, against a cache without a window',
    'vae': 'encoding as a stream, against the whole clip at once',
    'train': 'training steps, divided between processes, against one process',
    'nodes': 'the simulated graph during an episode, from its topics',
    'convert': 'the conversion of a bag with three cameras of 320 x 256 pixels at 30 Hz',
    'all': 'every line of a suite, each in a process of its own; writes the tables of a page',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be measured."""
    parser.description = 'Measure speed and memory, each beside a baseline of the same run. See docs/performance.md.'
    parser.epilog = f'example: {EXAMPLE}'
    measurements = parser.add_subparsers(dest='what', metavar='WHAT', required=True)
    for name, summary in MEASUREMENTS.items():
        own = measurements.add_parser(name, help=summary, description=f'Measure {summary}.')
        _ARGUMENTS[name](own)
        own.add_argument('--json', type=Path, metavar='FILE', help='write the numbers to FILE')


def run(args: argparse.Namespace) -> int:
    """Measure, print a table and write the numbers."""
    if args.what == 'all':
        return _run_all(args)
    from datetime import date

    from lingbot_va_core.hardware import describe_hardware
    from lingbot_va_core.training.record import portable_command
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.bench_tables import sheets, show

    if getattr(args, 'threads', None) is not None:
        import torch

        if not 1 <= args.threads <= 1024:
            raise ValueError(f'--threads is {args.threads}; it must be from 1 to 1024')
        torch.set_num_threads(args.threads)
    numbers = _MEASURE[args.what](args)
    numbers = {
        'what': args.what,
        'command': portable_command(args.argv),
        'date': date.today().isoformat(),
        'hardware': describe_hardware(getattr(args, 'device', 'cpu')),
        **numbers,
    }
    if args.json:
        write_json(args.json, numbers)
    show(sheets(args.what, [numbers]))
    difference = numbers.get('difference')
    if difference and not difference['agrees']:
        largest = max(difference.get(name, 0.0) for name in ('latents', 'actions'))
        raise RuntimeError(f'the baseline gives other numbers, by {largest:.1e}, above {difference["tolerance"]:g}')
    return 0


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--preset', default='tiny', help=f'{PRESETS} (default: %(default)s)')
    parser.add_argument('--height', type=int, help='of a full camera view, pixels')
    parser.add_argument('--width', type=int, help='of a full camera view, pixels')
    parser.add_argument('--chunk-frames', type=int, metavar='K', help='latent frames of a chunk')
    parser.add_argument('--window', type=int, metavar='N', help='attn_window: history in units of half a chunk')
    parser.add_argument('--video-guidance', type=float, metavar='G', help='1: off')
    parser.add_argument('--dtype', choices=('auto', 'float32', 'bfloat16'), default='auto',
                        help='of the transformer; auto: bfloat16 on a GPU, float32 on the CPU')  # fmt: skip
    _add_machine_arguments(parser)


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--threads', type=int, help='of torch on the CPU (default: all cores)')


def _add_chunk_arguments(parser: argparse.ArgumentParser) -> None:
    _add_model_arguments(parser)
    parser.add_argument('--video-steps', type=int, metavar='N', help='denoising steps, all of them run')
    parser.add_argument('--action-steps', type=int, metavar='N')
    parser.add_argument('--action-guidance', type=float, metavar='G', help='1: off')
    parser.add_argument(
        '--cycles', type=int, default=10, help='measured once the window is full (default: %(default)s)'
    )
    parser.add_argument('--no-encode', dest='encode', action='store_false', help='draw latents in place of encoding')
    parser.add_argument('--no-baseline', dest='baseline', action='store_false', help='ours alone')
    parser.add_argument('--ablate', action='store_true', help='also the released way without each of its overheads')
    parser.add_argument('--compile', action='store_true', help='let torch.compile fuse the blocks of ours')


def _add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    _add_model_arguments(parser)
    parser.add_argument('--windows', type=int, nargs='+', default=[1, 2, 5, 10], metavar='M',
                        help='lengths of the history, in windows (default: 1 2 5 10)')  # fmt: skip
    parser.add_argument('--repeats', type=int, default=20, help='forwards for each (default: %(default)s)')


def _add_vae_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--preset', default='tiny', help=f'whose VAE: {PRESETS} (default: %(default)s)')
    parser.add_argument('--height', type=int, help="of the view, pixels (default: the preset's)")
    parser.add_argument('--width', type=int, help='likewise')
    parser.add_argument('--latents', type=int, default=8, help='latent frames of the clip (default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=5, help='clips (default: %(default)s)')
    _add_machine_arguments(parser)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--preset', default='tiny', help=f'{PRESETS} (default: %(default)s)')
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2], metavar='N',
                        help='counts of processes; the first is the baseline (default: 1 2)')  # fmt: skip
    parser.add_argument('--steps', type=int, default=5, help='measured for each (default: %(default)s)')
    parser.add_argument('--set', action='append', default=[], metavar='SECTION.NAME=VALUE',
                        help='change a setting of the training, such as run.batch=16; may be repeated')  # fmt: skip
    _add_machine_arguments(parser)


def _add_nodes_arguments(parser: argparse.ArgumentParser) -> None:
    add_graph_arguments(parser)
    parser.add_argument('--seconds', type=float, default=20.0, help='length of the measurement (default: %(default)g)')
    parser.add_argument('--still-cameras', action='store_true', help='render once and publish that picture, as cameras '
                        'of a robot cost no rendering')  # fmt: skip
    parser.add_argument('--record', action='store_true', help='then measure as long again while all is recorded, with '
                        'three more cameras of 640 x 480 pixels at 30 Hz')  # fmt: skip


def _add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--seconds', type=float, default=600.0, help='length of the bag (default: %(default)g)')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes (default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='place for bag and data set, which are removed again; '
                        'a minute takes 0.6 GB (default: that of temporary files)')  # fmt: skip


def _add_all_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--suite', type=Path, metavar='FILE', help=f'what to run (default: config/{SUITE})')
    parser.add_argument('--out', type=Path, default=Path('out/bench'), metavar='DIR',
                        help='numbers of each line (default: %(default)s)')  # fmt: skip
    parser.add_argument('--page', type=Path, metavar='FILE', help='page whose tables are replaced')


def _measure_chunk(args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_core.benchmarks.chunk import measure_chunk, released_settings
    from lingbot_va_core.benchmarks.models import build_model, configured
    from lingbot_va_core.transformer import compile_blocks

    device, dtype = _place(args)
    steps = {'video_steps': args.video_steps, 'action_steps': args.action_steps}
    config = configured(args.preset, **_rollout(args), **steps, action_guidance=args.action_guidance)
    model = build_model(released_settings(config), device, dtype, vae=args.encode)
    if args.compile:
        compile_blocks(model.transformer)
    return {'compiled': args.compile, **measure_chunk(model, args.cycles, args.encode, args.baseline, args.ablate)}


def _measure_cache(args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_core.benchmarks.cache import measure_cache
    from lingbot_va_core.benchmarks.models import build_model, configured

    model = build_model(configured(args.preset, **_rollout(args)), *_place(args), vae=False)
    return measure_cache(model, sorted(args.windows), args.repeats)


def _measure_vae(args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_core.benchmarks.vae import measure_vae
    from lingbot_va_core.devices import usable_device
    from lingbot_va_core.presets import preset

    config = preset(args.preset)
    size = args.height or config.rollout.height, args.width or config.rollout.width
    return measure_vae(config.vae, size, args.latents, args.repeats, usable_device(args.device))


def _measure_train(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from lingbot_va_core.benchmarks.training import measure_training
    from lingbot_va_core.devices import usable_device
    from lingbot_va_core.resources import share_dir
    from lingbot_va_core.training.settings import PolicySettings, read_section, read_settings

    usable_device(args.device)
    path = share_dir() / 'config/training/tiny.yaml'
    settings = read_settings(PolicySettings, read_section(path, 'policy'), args.set, f'{path}: policy')
    counts = sorted(args.processes)
    return measure_training(args.preset, settings, counts, args.steps, args.device, torch.get_num_threads())


def _measure_nodes(args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_ros.graph_benchmark import measure_graph

    return measure_graph(args)


def _measure_convert(args: argparse.Namespace) -> dict[str, Any]:
    from lingbot_va_ros.conversion_benchmark import measure_conversion

    return measure_conversion(args.seconds, args.workers, args.out)


def _run_all(args: argparse.Namespace) -> int:
    from lingbot_va_core.resources import share_dir
    from lingbot_va_ros.performance_page import read_suite, run_suite, write_tables

    suite = read_suite(args.suite or share_dir() / 'config' / SUITE)
    if args.page and not args.page.is_file():
        raise ValueError(f'--page is {args.page}; there is no such file, and a new one would have no text')
    measured = run_suite(suite, args.out)
    if args.page:
        write_tables(args.page, measured)
        print(f'{args.page}: tables of {", ".join(measured)}')
    if args.json:
        from lingbot_va_ros.atomic import write_json

        write_json(args.json, measured)
    return 0


def _rollout(args: argparse.Namespace) -> dict[str, Any]:
    names = ('height', 'width', 'chunk_frames', 'video_guidance')
    return {'attn_window': args.window, **{name: getattr(args, name) for name in names}}


def _place(args: argparse.Namespace) -> tuple['torch.device', 'torch.dtype']:
    from lingbot_va_core.devices import dtype_of, usable_device

    device = usable_device(args.device)
    return device, dtype_of(args.dtype, device)


_ARGUMENTS = {
    'chunk': _add_chunk_arguments,
    'cache': _add_cache_arguments,
    'vae': _add_vae_arguments,
    'train': _add_train_arguments,
    'nodes': _add_nodes_arguments,
    'convert': _add_convert_arguments,
    'all': _add_all_arguments,
}
_MEASURE = {
    'chunk': _measure_chunk,
    'cache': _measure_cache,
    'vae': _measure_vae,
    'train': _measure_train,
    'nodes': _measure_nodes,
    'convert': _measure_convert,
}
