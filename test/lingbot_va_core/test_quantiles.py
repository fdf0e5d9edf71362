"""Action quantiles from files: every form, and what is refused."""

import json
from pathlib import Path

import pytest

from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.presets import ROLLOUTS
from lingbot_va_core.quantiles import read_quantiles

CHANNELS = [14, 28, 21]


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_statistics_of_a_lerobot_data_set_go_to_the_channels_in_their_order(tmp_path: Path) -> None:
    action = {'min': [-9, -9, -9], 'q01': [-1.5, 0, -2], 'q99': [1.5, 0.08, 2], 'count': [100]}
    file = write(tmp_path / 'stats.json', {'observation.state': {'q01': [7], 'q99': [7]}, 'action': action})
    normalizer = read_quantiles(file, CHANNELS)
    assert [channel for channel, used in enumerate(normalizer.mask) if used] == sorted(CHANNELS)
    assert [normalizer.q01[channel] for channel in CHANNELS] == [-1.5, 0.0, -2.0]
    assert [normalizer.q99[channel] for channel in CHANNELS] == [1.5, 0.08, 2.0]
    assert sum(map(abs, normalizer.q01)) == 3.5


def test_released_statistics_have_thirty_values(tmp_path: Path) -> None:
    low, high = [-float(i) for i in range(30)], [float(i) for i in range(30)]
    channels = ROLLOUTS['robotwin'].channels
    normalizer = read_quantiles(write(tmp_path / 'norm_stat.json', {'q01': low, 'q99': high}), channels)
    assert [normalizer.q99[c] for c in channels] == [float(c) for c in channels]
    assert all(normalizer.q99[c] == 0 for c in range(14, 28))


def test_our_own_form_brings_its_mask(tmp_path: Path) -> None:
    ours = ActionNormalizer((-0.1,) * 30, (0.3,) * 30, (True, *[False] * 29))
    assert read_quantiles(write(tmp_path / 'a.json', ours.to_dict())) == ours
    checkpoint = {'format': 'any', 'normalization': ours.to_dict()}
    assert read_quantiles(write(tmp_path / 'config.json', checkpoint), CHANNELS) == ours


@pytest.mark.parametrize(
    ('document', 'channels', 'message'),
    [
        ([], CHANNELS, 'has no q01 and q99 of the actions; give a file that has them'),
        ({'action': {'mean': [0], 'std': [1]}}, CHANNELS, 'has no q01 and q99'),
        ({'q01': [0] * 3, 'q99': [1] * 3}, None, 'does not say which channels it is for; name them'),
        ({'q01': [0] * 4, 'q99': [1] * 4}, CHANNELS, 'q01 has 4 values; it must have 30, or one for each of the 3'),
        ({'q01': [0, 'x', 0], 'q99': [1] * 3}, CHANNELS, r"q01 is \[0, 'x', 0\]; it must be a list of numbers"),
        ({'q01': [2] * 3, 'q99': [1] * 3}, CHANNELS, 'channel 14: q01 2.0 and q99 1.0 must be finite'),
        ({'q01': [0] * 2, 'q99': [1] * 2}, [3, 3], r'channels are \[3, 3\]; give different ones from 0 to 29'),
        ({'q01': [0], 'q99': [1]}, [30], r'channels are \[30\]'),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, document: object, channels: list[int] | None, message: str
) -> None:
    with pytest.raises(NormalizationError, match=f'stats.json.*{message}'):
        read_quantiles(write(tmp_path / 'stats.json', document), channels)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(NormalizationError, match=r'nowhere\.json cannot be read as JSON'):
        read_quantiles(tmp_path / 'nowhere.json', CHANNELS)
