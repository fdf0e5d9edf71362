"""Settings from YAML and from the command line."""

from pathlib import Path

import pytest

from lingbot_va_core.presets import TINY
from lingbot_va_core.resources import share_dir
from lingbot_va_core.training.settings import (
    PolicySettings,
    RolloutSettings,
    TrainingError,
    VAESettings,
    read_section,
    read_settings,
)


@pytest.mark.parametrize(
    ('name', 'section', 'kind'),
    [('tiny', 'vae', VAESettings), ('tiny', 'policy', PolicySettings), ('ablation', 'policy', PolicySettings)],
)
def test_the_shipped_settings_can_be_read(name: str, section: str, kind: type) -> None:
    read = read_settings(kind, read_section(share_dir() / 'config' / 'training' / f'{name}.yaml', section))
    assert read != kind()


def test_overrides_come_last() -> None:
    read = read_settings(PolicySettings, {'optimizer': {'lr': 0.5}}, ['optimizer.lr=1e-4', 'clips.window=[2, 5]'])
    assert read.optimizer.lr == 1e-4 and read.clips.window == (2, 5)
    assert read.run == PolicySettings().run


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('optimizer.speed=1', 'unknown speed; choose from lr, betas'),
        ('optimizer.lr', 'sets nothing; write section.name=value'),
        ('optimizer.lr=fast', r"optimizer.lr is 'fast'; it must be of type float"),
        ('optimizer.lr=-1', 'lr is -1.0'),
        ('clips.largest_chunk=8', 'chunks are 1 to 8 frames of 8'),
        ('clips.fdm_share=1.5', 'fdm_share is 1.5; it must be from 0 to 1'),
        ('objective.noise_unit=row', "noise_unit is 'row'; choose one of frame, chunk"),
        ('run=3', 'must be a mapping'),
    ],
)
def test_mistakes_are_explained(override: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read_settings(PolicySettings, {}, [override])


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / 'a.yaml').write_text('[1, 2]')
    with pytest.raises(TrainingError, match=r'a.yaml must be a mapping'):
        read_section(tmp_path / 'a.yaml', 'vae')
    with pytest.raises(TrainingError, match='cannot be read'):
        read_section(tmp_path / 'b.yaml', 'vae')


def test_the_way_a_model_is_run_can_change() -> None:
    rollout = RolloutSettings(chunk_frames=4, video_s=0.5).apply(TINY.rollout)
    assert (rollout.chunk_frames, rollout.video_s, rollout.video_exec_step) == (4, 0.5, None)
    assert RolloutSettings().apply(TINY.rollout) == TINY.rollout
