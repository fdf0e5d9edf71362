"""`lingbot-va info`: numbers that agree with a real model, found without making one."""

import json
import math
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lingbot_va_core.attention import Attention
from lingbot_va_core.checkpoint import load_model, save_checkpoint
from lingbot_va_core.config import ExpertConfig
from lingbot_va_core.presets import preset
from lingbot_va_core.robot import load_profile
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_ros import cli
from lingbot_va_ros.commands.info import describe


def test_keys_and_counts_are_those_of_a_real_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'info.json'
    assert cli.main(['info', '--preset', 'tiny', '--keys', '--json', str(file)]) == 0
    content = json.loads(file.read_text())
    model = WorldTransformer(preset('tiny').transformer)
    assert content['keys'] == {name: list(weight.shape) for name, weight in model.state_dict().items()}
    parameters = content['parameters']
    assert parameters['transformer'] == sum(weight.numel() for weight in model.parameters())
    assert parameters['video'] + parameters['action'] == parameters['transformer']
    assert parameters['action'] > sum(weight.numel() for weight in model.action_blocks.parameters())
    printed = capsys.readouterr().out
    assert 'blocks.0.attn1.to_q.weight  [192, 192]' in printed
    assert '36 video, 16 action' in printed


def test_a_shared_backbone_is_counted_as_shared() -> None:
    config = preset('tiny')
    shared = replace(config, transformer=replace(config.transformer, action=None))
    parameters = describe(shared, 'float32')['parameters']
    blocks = WorldTransformer(shared.transformer).blocks
    assert parameters['shared'] == sum(weight.numel() for weight in blocks.parameters()) + 2 * 192
    assert sum(parameters[name] for name in ('video', 'action', 'shared')) == parameters['transformer']


def test_half_precision_halves_the_cache() -> None:
    full, half = (describe(preset('tiny'), dtype)['cache']['bytes'] for dtype in ('float32', 'bfloat16'))
    assert full == 2 * half > 0


def test_a_model_larger_than_memory_is_described_without_its_weights() -> None:
    config = preset('tiny')
    large = replace(
        config.transformer,
        num_layers=30,
        num_heads=24,
        head_dim=128,
        video=ExpertConfig(width=3072, ffn_width=14336),
        action=ExpertConfig(width=768, ffn_width=4096),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    description = describe(replace(config, transformer=large), 'float32')
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert description['parameters']['transformer'] > 5e9
    assert grown < 1e9
    assert description['keys']['blocks.29.ffn.net.0.proj.weight'] == [14336, 3072]


def test_an_unknown_preset_exits_2(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['info', '--preset', 'nope']) == 2
    assert capsys.readouterr().err == (
        "lingbot-va info: error: preset 'nope' is unknown; choose one of lingbot-va-mot-5b, lingbot-va-shared-5b, "
        'tiny, tiny-shared, or a size between such as lingbot-va-mot-12x1024\n'
    )


# Shapes of the released files, layer by layer (D = 3072, feed-forward 14336).
D, FFN = 3072, 14336
ATTENTION = {
    **{f'{name}.weight': [D, D] for name in ('to_q', 'to_k', 'to_v', 'to_out.0')},
    **{f'{name}.bias': [D] for name in ('to_q', 'to_k', 'to_v', 'to_out.0')},
    **{f'{name}.weight': [D] for name in ('norm_q', 'norm_k')},
}
BLOCK = {
    **{f'attn{i}.{name}': shape for i in (1, 2) for name, shape in ATTENTION.items()},
    'norm2.weight': [D], 'norm2.bias': [D],
    'ffn.net.0.proj.weight': [FFN, D], 'ffn.net.0.proj.bias': [FFN],
    'ffn.net.2.weight': [D, FFN], 'ffn.net.2.bias': [D],
    'scale_shift_table': [1, 6, D],
}  # fmt: skip
LINEARS = {
    'patch_embedding_mlp': [D, 192], 'action_embedder': [D, 30], 'proj_out': [192, D], 'action_proj_out': [30, D],
    **{f'{embedder}.{name}': shape for embedder in ('condition_embedder', 'condition_embedder_action')
       for name, shape in (('time_embedder.linear_1', [D, 256]), ('time_embedder.linear_2', [D, D]),
                           ('time_proj', [6 * D, D]), ('text_embedder.linear_1', [D, 4096]),
                           ('text_embedder.linear_2', [D, D]))},
}  # fmt: skip
RELEASED = {
    **{f'blocks.{i}.{name}': shape for i in range(30) for name, shape in BLOCK.items()},
    **{f'{name}.weight': shape for name, shape in LINEARS.items()},
    **{f'{name}.bias': shape[:1] for name, shape in LINEARS.items()},
    'scale_shift_table': [1, 2, D],
}
LEGACY = {'patch_embedding.weight': [D, 48, 1, 2, 2], 'patch_embedding.bias': [D]}


def test_the_shared_preset_has_exactly_the_released_tensors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / 'info.json'
    assert cli.main(['info', '--preset', 'lingbot-va-shared-5b', '--keys', '--json', str(file)]) == 0
    content = json.loads(file.read_text())
    assert content['keys'] == {**RELEASED, **LEGACY}
    assert set(content['legacy_keys']) == set(LEGACY)
    assert content['tensors'] == {'used': 839, 'legacy': 2, 'all': 841}
    assert content['parameters']['transformer'] == sum(math.prod(shape) for shape in RELEASED.values())
    printed = capsys.readouterr().out
    assert sum(' [' in line for line in printed.splitlines()) == 841
    assert 'patch_embedding.bias  [3072]  (legacy, unused)' in printed
    assert '120 video, 16 action' in printed


def test_the_cache_of_the_shared_preset_has_the_released_number_of_slots() -> None:
    cache = describe(preset('lingbot-va-shared-5b'), 'bfloat16')['cache']
    assert cache['tokens'] == 72 // 2 * 2 * (120 + 16)
    per_token = 30 * 2 * 2 * 3072 * 2  # layers, with and without text, keys and values, width, bytes
    assert cache['bytes'] >= cache['tokens'] * per_token


def test_the_mot_preset_explains_how_its_action_stream_differs_from_the_paper(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['info', '--preset', 'lingbot-va-mot-5b']) == 0
    assert '212.68 M' in capsys.readouterr().out
    config = preset('lingbot-va-mot-5b')
    content = describe(config, 'bfloat16')
    assert content['parameters']['video'] == pytest.approx(5e9, rel=0.01)
    with torch.device('meta'):
        heads, width = config.transformer.num_heads, config.transformer.action.width
        wide, narrow = (Attention(width, inner, heads, 1e-6) for inner in (config.transformer.video.width, width))
    excess = 30 * (sum(w.numel() for w in wide.parameters()) - sum(w.numel() for w in narrow.parameters()))
    assert content['paper']['width_excess'] == excess
    assert content['paper']['action_at_own_width'] == content['parameters']['action'] - excess
    assert content['paper']['action_at_own_width'] == pytest.approx(350e6, rel=0.1)
    assert content['legacy_keys'] == []


def test_a_size_between_is_in_proportion() -> None:
    description = describe(preset('lingbot-va-mot-2x256'), 'float32')
    transformer = description['config']['transformer']
    assert (transformer['num_layers'], transformer['num_heads'], transformer['video']['width']) == (2, 2, 256)
    assert transformer['action']['width'] == 64
    assert description['parameters']['action'] < description['parameters']['video'] / 2


def test_a_checkpoint_tells_its_facts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = {'what': 'policy', 'robot': 'aloha', 'command': 'lingbot-va train policy', 'seconds': 90}
    model = load_model(None, 'tiny', load_profile('aloha'))
    save_checkpoint(replace(model, training=(run,)), tmp_path / 'model')
    file = tmp_path / 'info.json'
    assert cli.main(['info', '--checkpoint', str(tmp_path / 'model'), '--json', str(file)]) == 0
    printed = capsys.readouterr().out
    assert '36 video, 16 action' in printed and f'checkpoint        {model.name}' in printed
    assert 'World model: command: `lingbot-va train policy`' in printed and 'robot: aloha' in printed
    content = json.loads(file.read_text())
    assert (content['checkpoint'], content['training'], content['results']) == (model.name, [run], [])
    assert cli.main(['info', '--checkpoint', str(tmp_path)]) == 2
    assert 'config.json cannot be read' in capsys.readouterr().err
