"""`lingbot-va info`: describes a model without allocating its weights, or a robot."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from lingbot_va_core.config import ModelConfig

EXAMPLE = 'lingbot-va info --preset lingbot-va-shared-5b --keys'
DTYPES = ('float32', 'bfloat16', 'float16')
ACTION_PARTS = ('action_', 'condition_embedder_action.')
EXPERT_PARTS = ('blocks.', 'scale_shift_table')  # of both streams where the action stream has no expert of its own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        'Describe a model: parameters of each stream, tokens, memory of the cache, names of weights. With --checkpoint '
        'also how it was trained and what was measured of it. With --robot: check a robot profile, and describe it or '
        'name every mistake in it.'
    )
    parser.epilog = f'example: {EXAMPLE}'
    parser.add_argument(
        '--preset',
        default='tiny',
        help='tiny, tiny-shared, lingbot-va-shared-5b, lingbot-va-mot-5b, or a size between, such as '
        'lingbot-va-mot-12x1024: 12 layers of width 1024 (default: %(default)s)',
    )
    parser.add_argument(
        '--dtype', choices=DTYPES, help='of the cache (default: bfloat16; of the tiny presets, float32)'
    )
    parser.add_argument('--checkpoint', type=Path, metavar='FOLDER', help='of our own layout, in place of --preset')
    parser.add_argument('--robot', metavar='NAME|FILE', help='a profile in config/robots, or a YAML file')
    parser.add_argument('--keys', action='store_true', help='list the weights of the transformer with their shapes')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the description with the keys to FILE')


def run(args: argparse.Namespace) -> int:
    """Print the description."""
    if args.robot:
        return _run_robot(args)
    from lingbot_va_core.config import ModelConfig
    from lingbot_va_core.model_card import card_lines, read_document, read_results, read_training
    from lingbot_va_core.presets import preset
    from lingbot_va_ros.atomic import write_json

    document = read_document(args.checkpoint) if args.checkpoint else None
    config = ModelConfig.from_dict(document['model']) if document else preset(args.preset)
    description = describe(config, args.dtype or ('float32' if config.name.startswith('tiny') else 'bfloat16'))
    for line in _lines(description):
        print(line)
    if document:
        results = read_results(args.checkpoint)
        training = list(read_training(document))
        description |= {'checkpoint': document['name'], 'training': training, 'results': results}
        print(f'checkpoint        {document["name"]}')
        for name, text in card_lines(args.checkpoint):
            print(f'  {name}: {text}')
        for result in results:
            print(f'  {result["name"]}: {100 * result["value"]:.0f} % solved')
    if args.keys:
        for name, shape in description['keys'].items():
            print(f'{name}  {shape}' + '  (legacy, unused)' * (name in description['legacy_keys']))
    if args.json:
        write_json(args.json, description)
    return 0


def _run_robot(args: argparse.Namespace) -> int:
    """Check a profile, alone and against its description of the robot; 2 when something is wrong."""
    from lingbot_va_core.description_check import description_problems
    from lingbot_va_core.robot import ProfileError, load_profile, profile_path
    from lingbot_va_ros.atomic import write_json
    from lingbot_va_ros.robot_description import describe_robot, robot_lines

    path, profile = profile_path(args.robot), None
    try:
        profile = load_profile(args.robot)
        problems = description_problems(profile)
    except ProfileError as error:
        problems = [*error.problems, *description_problems(error)]
    if args.json:
        description = describe_robot(profile, path) if profile else {'file': str(path)}
        write_json(args.json, {'valid': not problems, 'problems': problems, **description})
    if not problems:
        print('\n'.join(robot_lines(profile, path)))
        return 0
    print(
        f'lingbot-va info: error: {path}: {len(problems)} {"mistakes" if problems[1:] else "mistake"}', file=sys.stderr
    )
    for problem in problems:
        print(f'  {problem}', file=sys.stderr)
    return 2


def describe(config: 'ModelConfig', dtype: str) -> dict[str, Any]:
    """Return what there is to know about a model, as JSON.

    `keys` maps each weight of the transformer to its shape. In the released layout, where both streams share one set of
    blocks, it contains the `legacy_keys`, which released files hold and no code uses; they are in no other count.
    """
    import torch

    from lingbot_va_core.cache import KVCache
    from lingbot_va_core.transformer import WorldTransformer
    from lingbot_va_core.vae import build_vae
    from lingbot_va_core.weights import legacy_shapes

    rollout, transformer = config.rollout, config.transformer
    with torch.device('meta'):
        model, vae = WorldTransformer(transformer), build_vae(config.vae)
    cache = KVCache(
        layers=transformer.num_layers,
        batch=2 if max(rollout.video_guidance, rollout.action_guidance) > 1 else 1,
        heads=transformer.num_heads,
        head_dim=transformer.head_dim,
        slots=config.cache_slots,
        device='meta',
        dtype=getattr(torch, dtype),
    )
    keys = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    legacy = {name: list(shape) for name, shape in legacy_shapes(transformer).items()}
    return {
        'preset': config.name,
        'parameters': {**_parameters(model, transformer.action is None), 'vae': _count(vae)},
        'paper': _paper(model) if config.name == 'lingbot-va-mot-5b' else None,
        'tokens_per_latent_frame': {'video': config.video_tokens, 'action': rollout.actions_per_latent},
        'latent_shape': list(config.latent_shape),
        'chunk_frames': rollout.chunk_frames,
        'actions_per_chunk': rollout.chunk_frames * rollout.actions_per_latent,
        'cache': {'tokens': config.cache_slots, 'bytes': cache.nbytes, 'dtype': dtype},
        'config': config.to_dict(),
        'tensors': {'used': len(keys), 'legacy': len(legacy), 'all': len(keys) + len(legacy)},
        'legacy_keys': list(legacy),
        'keys': {**keys, **legacy},
    }


def _parameters(model: 'nn.Module', one_expert: bool) -> dict[str, int]:
    """Count the transformer's parameters by stream."""
    counts = {'transformer': _count(model), 'video': 0, 'action': 0, 'shared': 0}
    for name, weight in model.named_parameters():
        if name.startswith(ACTION_PARTS):
            counts['action'] += weight.numel()
        elif one_expert and name.startswith(EXPERT_PARTS):
            counts['shared'] += weight.numel()
        else:
            counts['video'] += weight.numel()
    return counts


def _paper(model: 'nn.Module') -> dict[str, Any]:
    """Compare the action stream's size with the paper's, see docs/model.md.

    `width_excess` is what the projections of the joint attention have because one side of them is as wide as the video
    stream; with both sides as wide as the action stream, `action_at_own_width` would be left.
    """
    narrow, wide = (model.config.action.width, model.config.video.width)
    layers = model.config.num_layers
    excess = layers * (4 * narrow * (wide - narrow) + 3 * (wide - narrow) + 2 * (wide - narrow))
    action = _parameters(model, one_expert=False)['action']
    return {
        'video': 5_000_000_000,
        'action': 350_000_000,
        'width_excess': excess,
        'action_at_own_width': action - excess,
    }


def _count(model: 'nn.Module') -> int:
    return sum(weight.numel() for weight in model.parameters())


def _lines(description: dict[str, Any]) -> list[str]:
    parameters, tokens, cache = (description[key] for key in ('parameters', 'tokens_per_latent_frame', 'cache'))
    streams = ', '.join(f'{name} {_millions(parameters[name])}' for name in ('video', 'action', 'shared'))
    tensors, paper = description['tensors'], description['paper']
    released = f' and {tensors["legacy"]} legacy ones, {tensors["all"]} in all' if tensors['legacy'] else ''
    lines = [
        f'preset            {description["preset"]}',
        f'transformer       {_millions(parameters["transformer"])} parameters ({streams})',
        f'                  {tensors["used"]} tensors{released}',
        f'video VAE         {_millions(parameters["vae"])} parameters',
        f'latent frame      {" x ".join(map(str, description["latent_shape"]))} (channels, rows, columns)',
        f'tokens per frame  {tokens["video"]} video, {tokens["action"]} action',
        f'chunk             {description["chunk_frames"]} latent frames, {description["actions_per_chunk"]} actions',
        f'KV cache          {cache["tokens"]} tokens, {cache["bytes"] / 2**20:.1f} MiB in {cache["dtype"]}',
    ]
    if paper:
        lines[2:2] = [
            f'                  paper: about {paper["video"] / 1e6:.0f} M and {paper["action"] / 1e6:.0f} M. Of our '
            f'action stream, {_millions(paper["width_excess"])}',
            '                  come from projecting its queries, keys, values and outputs to and from the width of the',
            f'                  video stream in every layer; {_millions(paper["action_at_own_width"])} remain without',
        ]
    return lines


def _millions(count: int) -> str:
    return f'{count / 1e6:.2f} M'
