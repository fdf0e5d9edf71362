"""`lingbot-va train`: trains the video VAE, then the world model, on recorded episodes."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lingbot_va_core.training.distributed import World
    from lingbot_va_core.world_model import WorldModel

EXAMPLE = 'lingbot-va train policy --dataset data/transfer --model out/vae/checkpoint --out out/policy'
CONFIG = 'training/tiny.yaml'
POLICY_ALONE = ('vae', 'freeze_video', 'lora', 'keep_quantiles', 'name', 'cache')  # options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Train on recorded episodes. vae: the tiny video VAE, first. policy: the world model. The same command again '
        'goes on with a run that was ended. Under torchrun, several processes share the work of policy.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument('what', choices=['vae', 'policy'], help='what to train')
    parser.add_argument(
        '--dataset',
        action='append',
        required=True,
        metavar='DIR[:WEIGHT]',
        help='a data set, and for policy its weight in the mixture (1); may be repeated. The first one is of the robot '
        'that the model is for',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument(
        '--model',
        metavar='CHECKPOINT',
        help='folder or Hub id to begin with; for policy of the tiny preset what train vae wrote (default: untrained)',
    )
    parser.add_argument('--preset', default='tiny', help='of an untrained model (default: %(default)s)')
    parser.add_argument(
        '--robot', help='for an untrained model: profile, a name or a YAML file (default: the one that the data names)'
    )
    parser.add_argument(
        '--vae',
        metavar='CHECKPOINT',
        help='policy: with --preset in place of --model: an untrained model of that preset with the VAE of CHECKPOINT',
    )
    parser.add_argument('--config', type=Path, metavar='FILE', help=f'settings (default: config/{CONFIG})')
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='SECTION.NAME=VALUE',
        help='change a setting, such as optimizer.lr=1e-4; may be repeated',
    )
    parser.add_argument('--steps', type=int, help='short for --set run.steps=N')
    parser.add_argument('--freeze-video', action='store_true', help='policy: train the action stream alone')
    parser.add_argument('--lora', type=int, metavar='RANK', help='policy: train low-rank adapters')
    parser.add_argument(
        '--keep-quantiles', action='store_true', help="policy: normalise actions as the model's checkpoint does"
    )
    parser.add_argument('--name', help='policy: of the trained model (default: preset, data sets and steps)')
    parser.add_argument(
        '--cache', type=Path, metavar='DIR', help='policy: of encoded latents (default: ~/.cache/lingbot_va)'
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: %(default)s)')
    parser.add_argument('--threads', type=int, help='of the CPU (default: all cores)')
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result to FILE')


def run(args: argparse.Namespace) -> int:
    """Train, and print where the checkpoint is."""
    places = [_place(text) for text in args.dataset]
    if args.what == 'vae':
        _check_vae(args, places)

    import torch

    from lingbot_va_core.training.distributed import join_world, leave_world
    from lingbot_va_ros.atomic import write_json

    warnings.filterwarnings('ignore', 'Mismatch dtype between input and weight')  # RMSNorm under autocast, as it should
    if args.threads:
        torch.set_num_threads(args.threads)
    world = join_world(args.device)
    try:
        result = _train_vae(args, places, world) if args.what == 'vae' else _train_policy(args, places, world)
        if world.first:
            if args.json:
                write_json(args.json, result)
            losses = [
                f'{name.removeprefix("held_out_")} {value:.4f}' for name, value in result.items() if 'held' in name
            ]
            print(f'{args.out}/checkpoint  {result["steps"]} steps, {result["seconds_per_step"]:.2f} s each')
            if losses:
                print(f'held-out episodes: {", ".join(losses)}')
    finally:
        leave_world()
    return 0


def _check_vae(args: argparse.Namespace, places: list[tuple[Path, float]]) -> None:
    """Refuse what the training of the VAE would not heed."""
    for option in POLICY_ALONE:
        if getattr(args, option) not in (None, False):
            raise ValueError(f'--{option.replace("_", "-")} is for train policy; train vae does without it')
    for path, weight in places:
        if weight != 1:
            raise ValueError(f'--dataset {path}:{weight:g}: train vae takes all data sets alike; leave out the weight')


def _train_vae(args: argparse.Namespace, places: list[tuple[Path, float]], world: 'World') -> dict[str, Any]:
    from lingbot_va_core.datasets.checks import check
    from lingbot_va_core.datasets.reader import Dataset
    from lingbot_va_core.training.episodes import check_clocks
    from lingbot_va_core.training.latent_cache import content_key, weights_key
    from lingbot_va_core.training.record import run_record
    from lingbot_va_core.training.settings import VAESettings
    from lingbot_va_core.training.trainer import train
    from lingbot_va_core.training.vae_training import VAETask, load_views

    settings = _settings(args, VAESettings)
    datasets = [Dataset(path) for path, _ in places]
    check_clocks(datasets)
    for dataset in datasets:
        check(dataset)
    model = _model(args, datasets[0].spec.robot)
    document = _document(args, settings, [content_key(dataset, model) for dataset in datasets], weights_key(model))
    record = run_record(args.what, args.argv, [(each, 1.0) for each in datasets], model.name, settings.run, world)
    views = load_views(datasets, model, _progress(args, world))
    task = VAETask(model, views, settings, world, bool(args.model), record)
    return train(task, settings.run, settings.optimizer, args.out, document, world, not args.quiet)


def _train_policy(args: argparse.Namespace, places: list[tuple[Path, float]], world: 'World') -> dict[str, Any]:
    from lingbot_va_core.training.episodes import load_mixture, open_sources
    from lingbot_va_core.training.latent_cache import default_cache, weights_key
    from lingbot_va_core.training.policy_training import PolicyTask, check_reach
    from lingbot_va_core.training.record import run_record
    from lingbot_va_core.training.settings import PolicySettings
    from lingbot_va_core.training.trainer import train

    settings = _settings(args, PolicySettings)
    if args.freeze_video:
        settings = replace(settings, objective=replace(settings.objective, freeze_video=True))
    if args.lora is not None:
        settings = replace(settings, lora=replace(settings.lora, rank=args.lora))
    sources = open_sources(places, settings.clips)
    model = _model(args, sources[0].dataset.spec.robot)
    if args.keep_quantiles:
        sources = open_sources(places, settings.clips, model.normalizer)
    rollout = replace(settings.rollout.apply(model.config.rollout), relative_poses=settings.clips.relative_poses)
    config = replace(model.config, rollout=rollout)
    warning = check_reach(settings.clips, config.rollout)
    if warning and world.first:
        print(f'warning: {warning}', file=sys.stderr)
    model = replace(model, config=config, normalizer=sources[0].normalizer)
    model.vae.to(world.device)
    model = replace(model, device=world.device)
    cache = args.cache or default_cache()
    mixture = load_mixture(sources, model, cache, settings.clips.holdout, _progress(args, world))
    model.vae.cpu()
    document = _document(args, settings, mixture.keys, weights_key(model))  # before adapters change the model
    names = ' and '.join(path.name for path, _ in places)
    name = args.name or f'{config.name} ({names}, {settings.run.steps} steps)'
    datasets = [(source.dataset, source.weight) for source in sources]
    record = run_record(args.what, args.argv, datasets, model.name, settings.run, world)
    task = PolicyTask(model, mixture, settings, world, name, record)
    return train(task, settings.run, settings.optimizer, args.out, document, world, not args.quiet)


def _settings(args: argparse.Namespace, kind: type) -> Any:
    from lingbot_va_core.resources import share_dir
    from lingbot_va_core.training.settings import read_section, read_settings

    path = args.config or share_dir() / 'config' / CONFIG
    overrides = [*args.set, *([f'run.steps={args.steps}'] if args.steps is not None else [])]
    return read_settings(kind, read_section(path, args.what), overrides, f'{path}: {args.what}')


def _model(args: argparse.Namespace, robot: str) -> 'WorldModel':
    from lingbot_va_core.checkpoint import load_model, with_vae
    from lingbot_va_core.robot import load_profile

    if args.model and args.vae:
        raise ValueError('--model and --vae are both given; the one has a VAE, the other is for an untrained model')
    if args.model and args.robot:
        raise ValueError('--model and --robot are both given; the one is of a robot already, leave out --robot')
    if args.model:
        return load_model(args.model)
    profile = load_profile(args.robot or robot)
    if profile.name != robot:
        raise ValueError(f"--robot {args.robot} is '{profile.name}', but the first data set is of '{robot}'")
    model = load_model(None, args.preset, profile)
    return with_vae(model, load_model(args.vae)) if args.vae else model


def _document(args: argparse.Namespace, settings: Any, keys: Sequence[str], weights: str) -> dict[str, Any]:
    """What a run is recognised by: settings, and the content of what it reads, since a path may come to hold more."""
    return {
        'what': args.what,
        'datasets': args.dataset,
        'model': args.model or args.preset,
        'keep_quantiles': args.keep_quantiles,
        'content': {**{f'dataset {i + 1}': key for i, key in enumerate(keys)}, 'starting weights': weights},
        **asdict(settings),
    }


def _place(text: str) -> tuple[Path, float]:
    """Split DIR[:WEIGHT]."""
    folder, colon, weight = text.rpartition(':')
    if not colon or '/' in weight:
        return Path(text), 1.0
    try:
        return Path(folder), float(weight)
    except ValueError:
        raise ValueError(f"--dataset {text}: the weight is '{weight}'; give a number") from None


def _progress(args: argparse.Namespace, world: 'World') -> Any:
    """Return a function that shows how far the preparation is."""
    if args.quiet or not world.first:
        return None

    def show(what: str, done: int, count: int) -> None:
        print(f'\r{what}: {done} of {count} episodes', end='\n' if done == count else '', flush=True)

    return show
