"""`lingbot-va checkpoint`: from a released folder to every layout with nothing but paths and names."""

import json
from pathlib import Path

import pytest
import torch

from lingbot_va_core.checkpoint import WorldModel, load_model, save_checkpoint
from lingbot_va_core.golden import load_golden
from lingbot_va_core.presets import ROLLOUTS
from lingbot_va_core.robot import load_profile
from lingbot_va_ros import cli

GOLDEN = Path(__file__).resolve().parents[2] / 'data' / 'golden' / 'width3'


@pytest.fixture(scope='module')
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the authors' layout, with weights that the released code has run."""
    folder = tmp_path_factory.mktemp('source') / 'released'
    save_checkpoint(load_golden(GOLDEN, dtype=torch.bfloat16).model, folder, 'released')
    return folder


@pytest.fixture
def quantiles(tmp_path: Path) -> Path:
    """Statistics of a LeRobot data set of sixteen values."""
    file = tmp_path / 'stats.json'
    file.write_text(json.dumps({'action': {'q01': [-1.0 - i for i in range(16)], 'q99': [1.0] * 16}}))
    return file


def weights(model: WorldModel) -> dict[str, torch.Tensor]:
    return {**model.transformer.state_dict(), **model.vae.state_dict()}


def test_a_released_folder_becomes_every_layout_and_is_the_same_in_the_end(
    released: Path, quantiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    own, lerobot, again = (tmp_path / name for name in ('own', 'lerobot', 'again'))
    file = tmp_path / 'result.json'
    first = ['checkpoint', str(released), '--rollout', 'robotwin', '--quantiles', str(quantiles), '--out', str(own)]
    assert cli.main([*first, '--json', str(file)]) == 0
    assert cli.main(['checkpoint', str(own), '--format', 'lerobot', '--out', str(lerobot)]) == 0
    assert cli.main(['checkpoint', str(lerobot), '--format', 'released', '--out', str(again)]) == 0
    for part in ('transformer', 'vae'):
        for path in (released / part).iterdir():
            assert (again / part / path.name).read_bytes() == path.read_bytes()
    model = load_model(own, dtype=None)
    assert model.config.rollout == ROLLOUTS['robotwin'].rollout
    assert model.normalizer.q01[28] == -8.0  # the eighth value of the data's actions
    assert weights(model)['proj_out.weight'].dtype == torch.bfloat16
    result = json.loads(file.read_text())
    assert (result['variant'], result['dtype'], result['format']) == ('shared', 'bfloat16', 'own')
    assert result['bytes'] == sum(path.stat().st_size for path in own.iterdir())
    assert 'own: released in the layout own, shared' in capsys.readouterr().out


def test_a_shared_model_becomes_a_mixture_in_another_type(released: Path, quantiles: Path, tmp_path: Path) -> None:
    options = ['--quantiles', str(quantiles), '--channels', '0-6,28,7-13,29', '--rollout', 'demo']
    arguments = ['checkpoint', str(released), *options, '--variant', 'mot', '--dtype', 'float32']
    assert cli.main([*arguments, '--out', str(tmp_path / 'mot')]) == 0
    model = load_model(tmp_path / 'mot', dtype=None)
    assert model.config.transformer.action is not None
    source = load_golden(GOLDEN, dtype=torch.bfloat16).model.transformer.state_dict()
    ours = weights(model)
    video = [name for name in source if not name.startswith(('action_', 'condition_embedder_action.'))]
    assert all(torch.equal(ours[name], source[name].float()) for name in video)


def test_instructions_travel_with_the_checkpoint(tmp_path: Path) -> None:
    profile = load_profile('aloha')
    save_checkpoint(load_model(None, 'tiny', profile), tmp_path / 'tiny')
    spoken = [word for text in ('lift the cube', 'insert the peg') for word in ('--instruction', text)]
    assert cli.main(['checkpoint', str(tmp_path / 'tiny'), '--out', str(tmp_path / 'known'), *spoken]) == 0
    text = load_model(tmp_path / 'known', profile=profile).text
    assert set(text.table) == {'lift the cube', 'insert the peg', ''}


def test_another_text_encoder_can_be_named(released: Path, quantiles: Path, tmp_path: Path) -> None:
    options = ['--rollout', 'robotwin', '--quantiles', str(quantiles), '--text-encoder', 'robbyant/lingbot-va-base']
    assert cli.main(['checkpoint', str(released), *options, '--out', str(tmp_path / 'own')]) == 0
    assert load_model(tmp_path / 'own').config.text.source == 'robbyant/lingbot-va-base'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'no checkpoint folder at nowhere'),
        (['SOURCE'], 'holds no action quantiles; give them, or convert it: lingbot-va checkpoint SOURCE --rollout'),
        (['SOURCE', '--rollout', 'moon'], "rollout 'moon' is unknown; choose one of robotwin, franka, demo, libero"),
        (['SOURCE', '--quantiles', 'QUANTILES'], 'does not say which channels it is for'),
        (['SOURCE', '--quantiles', 'QUANTILES', '--channels', '3-'], "--channels is '3-'; give numbers and ranges"),
        (['SOURCE', '--quantiles', 'QUANTILES', '--channels', '0-3'], 'q01 has 16 values; it must have 30, or one for'),
        (['SOURCE', '--variant', 'mot', '--format', 'released'], '--variant needs --format own'),
        (['SOURCE', '--instruction', 'x', '--format', 'lerobot'], '--instruction needs --format own'),
        (['SOURCE', '--cameras', 'a'], '--cameras needs --format lerobot'),
        (['OUT'], 'is the source; choose another folder'),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_nothing_is_written(
    released: Path, quantiles: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / 'out'
    places = {'SOURCE': str(released), 'QUANTILES': str(quantiles), 'OUT': str(out)}
    assert cli.main(['checkpoint', *[places.get(a, a) for a in arguments], '--out', str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert message in error
    assert not out.exists()
