"""`lingbot-va info`: numbers that agree with a real model, found without making one."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from lingbot_va_core.config import ExpertConfig
from lingbot_va_core.presets import preset
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
        "lingbot-va info: error: preset 'nope' is unknown; choose one of lingbot-va-mot-5b, lingbot-va-shared-5b, tiny, "
        'or a size between such as lingbot-va-mot-12x1024\n'
    )
