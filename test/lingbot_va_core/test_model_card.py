"""The card of a checkpoint: what it says, and what it says nothing of."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lingbot_va_core.checkpoint import CheckpointError, WorldModel, load_model, save_checkpoint, with_vae
from lingbot_va_core.model_card import CARD, misfit, read_results, read_training, write_card
from lingbot_va_core.robot import RobotProfile

DATA = {'name': 'cubes', 'robot': 'aloha', 'episodes': 50, 'seeds': [7, 56], 'minutes': 5.5, 'weight': 1.0,
        'instructions': ['hand the cube over']}  # fmt: skip
OTHER = {**DATA, 'name': 'videos', 'robot': 'openarm', 'seeds': None, 'instructions': ['anything']}
HARDWARE = {'processor': 'Z80', 'cores': 1, 'threads': 1, 'gpu': None, 'torch': '2.0', 'processes': 1}
RUN = {
    'what': 'policy', 'command': 'lingbot-va train policy --out run', 'date': '2026-01-02', 'robot': 'aloha',
    'start': 'tiny', 'datasets': [DATA, OTHER], 'clips_per_step': 8, 'seed': 3, 'hardware': HARDWARE, 'steps': 100,
    'seconds': 600, 'held_out': {'video': 0.5},
}  # fmt: skip
NUMBERS = {
    'label': 'sync', 'task': 'transfer_cube', 'robot': 'aloha', 'seed': 90000, 'episodes': 100, 'successes': 97,
    'success_rate': 0.97, 'confidence_95': [0.9155, 0.9897],
}  # fmt: skip


@pytest.fixture
def folder(tiny: WorldModel, tmp_path: Path) -> Path:
    save_checkpoint(replace(tiny, training=(RUN,)), tmp_path / 'model')
    return tmp_path / 'model'


def metadata(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / CARD).read_text().split('---\n')[1])


def test_a_trained_model_is_saved_with_its_card(folder: Path, tiny: WorldModel) -> None:
    card = (folder / CARD).read_text()
    facts = ['hand the cube over', 'cubes: 50 episodes, 5.5 min, seeds 7 to 56', '`lingbot-va train policy --out run`']
    facts += ['100, 8 clips each', '10 min', 'Z80, 1 core', 'video 0.5', '2026-01-02', 'Not measured yet']
    assert [fact for fact in facts if fact not in card] == []
    count = sum(weight.numel() for weight in tiny.transformer.parameters())
    assert f'transformer {count / 1e6:.2f} M' in card
    assert metadata(folder)['pipeline_tag'] == 'robotics' and 'model-index' not in metadata(folder)
    assert load_model(folder).training == (RUN,)


def test_saving_again_replaces_the_card(folder: Path) -> None:
    model = load_model(folder)
    save_checkpoint(replace(model, training=({**RUN, 'seconds': 1200},)), folder)
    assert '20 min' in (folder / CARD).read_text()


def test_a_model_that_has_only_the_vae_of_another_comes_from_the_runs_of_that_vae(
    tiny: WorldModel, profile: RobotProfile
) -> None:
    vae = {**RUN, 'what': 'vae'}
    model = with_vae(load_model(None, 'tiny', profile, seed=1), replace(tiny, training=(vae, RUN)))
    assert model.training == (vae,) and model.vae is tiny.vae


def test_results_are_in_the_card_and_in_its_metadata(folder: Path) -> None:
    assert read_results(folder) == []
    write_card(folder, [NUMBERS])
    assert '| sync | transfer_cube | 97 of 100 | 97 % (92 to 99) |' in (folder / CARD).read_text()
    assert read_results(folder) == [{'type': 'success_rate', 'name': 'sync', 'value': 0.97}]
    assert metadata(folder)['model-index'][0]['results'][0]['dataset']['name'].endswith('seeds 90000 to 90099')
    assert sorted(path.name for path in folder.iterdir())[0] == CARD  # nothing is left beside it


def test_an_untrained_model_has_no_card(tiny: WorldModel, tmp_path: Path) -> None:
    save_checkpoint(tiny, tmp_path / 'model')
    assert not (tmp_path / 'model' / CARD).exists() and load_model(tmp_path / 'model').training == ()


def test_what_a_model_is_not_for_is_said_in_one_line() -> None:
    assert misfit('tiny', (RUN,), 'aloha', 'hand the cube over') == ''
    assert misfit('tiny', (RUN,), 'openarm') == "tiny was trained for robot 'aloha', not for 'openarm'"
    problem = misfit('tiny', (RUN,), 'aloha', 'anything')
    assert problem == "tiny was trained for 'hand the cube over', not for 'anything'"
    assert misfit('tiny', (), 'openarm', 'anything') == ''  # nothing is known of it


def test_training_that_is_no_list_of_runs_is_refused(folder: Path) -> None:
    for broken in ('long', [1], {}, [{'datasets': [{'name': 'cubes'}]}]):
        with pytest.raises(CheckpointError, match='training'):
            read_training({'training': broken})
    document = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**document, 'training': 'long'}))
    with pytest.raises(CheckpointError, match='training is'):
        load_model(folder)
