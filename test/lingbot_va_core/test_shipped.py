"""Which checkpoint is used where none is named; and the one that comes with the package, if there is one."""

from dataclasses import replace
from pathlib import Path

import pytest

from lingbot_va_core import shipped
from lingbot_va_core.checkpoint import WorldModel, load_model, save_checkpoint
from lingbot_va_core.model_card import CARD, read_document
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.shipped import FOLDER, choose_checkpoint, known_training
from lingbot_va_core.weights import CheckpointError

RUN = {'what': 'policy', 'robot': 'aloha', 'datasets': []}
TINY = Path(__file__).resolve().parents[2] / FOLDER / 'tiny'
MOST_BYTES = 40_000_000


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A share folder without checkpoints."""
    monkeypatch.setattr(shipped, 'share_dir', lambda: tmp_path)
    return tmp_path


def test_without_a_shipped_checkpoint_the_model_is_untrained(box: Path) -> None:
    choice = choose_checkpoint('auto', 'tiny', 'aloha')
    assert choice.checkpoint is None and 'no checkpoint comes with this package for the preset tiny' in choice.notice


def test_the_shipped_checkpoint_is_for_its_robot_and_preset_only(box: Path, tiny: WorldModel) -> None:
    folder = box / FOLDER / 'tiny'
    save_checkpoint(replace(tiny, training=(RUN,)), folder)
    for unnamed in ('auto', '', None):
        assert choose_checkpoint(unnamed, 'tiny', 'aloha') == shipped.Choice(str(folder))
    assert known_training(str(folder)) == (RUN,)
    other = choose_checkpoint('', 'tiny', 'openarm')
    assert other.checkpoint is None and "was trained for robot 'aloha', not for 'openarm'" in other.notice
    assert choose_checkpoint('', 'tiny-shared', 'aloha').checkpoint is None


def test_what_is_named_is_taken(box: Path) -> None:
    assert choose_checkpoint('my/model', 'tiny', 'openarm') == shipped.Choice('my/model')
    assert choose_checkpoint('none', 'tiny', 'aloha').checkpoint is None
    assert known_training('my/model') == known_training(None) == ()


def test_a_broken_shipped_checkpoint_is_an_error(box: Path) -> None:
    (box / FOLDER / 'tiny').mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r'config\.json cannot be read'):
        choose_checkpoint('', 'tiny', 'aloha')


@pytest.mark.skipif(not TINY.is_dir(), reason=f'there is no {FOLDER}/tiny in this checkout')
def test_the_shipped_checkpoint_is_small_and_says_where_it_comes_from(profile: RobotProfile) -> None:
    files = [path for path in TINY.rglob('*') if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.name for path in files} == {
        'config.json', 'transformer.safetensors', 'vae.safetensors', 'text_embeddings.safetensors', CARD,
    }  # fmt: skip
    model = load_model(TINY, profile=profile)
    what = [stage['what'] for stage in model.training]
    assert what[0] == 'vae' and set(what[1:]) == {'policy'}
    for stage in model.training:
        assert {'command', 'datasets', 'seed', 'steps', 'seconds', 'hardware', 'held_out'} <= set(stage)
    assert '/tmp' not in (TINY / CARD).read_text() and model.name == read_document(TINY)['name']
    assert choose_checkpoint('', 'tiny', profile.name).checkpoint == str(TINY)
