"""Action quantiles from a file: our own JSON, the released norm_stat, or the statistics of a LeRobot data set."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lingbot_va_core.normalization import ActionNormalizer, NormalizationError
from lingbot_va_core.robot import ACTION_DIM

QUANTILES = ('q01', 'q99')


def read_quantiles(path: Path | str, channels: Sequence[int] | None = None) -> ActionNormalizer:
    """Read how actions are normalised.

    Args:
        path: JSON of one of these forms: {q01, q99, mask} with 30 values each; a config.json of our checkpoints, which
            has that under `normalization`; {q01, q99}, or that under `action` as in LeRobot's meta/stats.json, with one
            value for each of `channels` in their order, or with 30.
        channels: channels in use; of no effect where the file has a mask.

    Raises:
        NormalizationError: the file cannot be read, has another form, or does not go with `channels`.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NormalizationError(f'{path} cannot be read as JSON: {error}') from error
    for key in ('normalization', 'action'):
        document = document.get(key, document) if isinstance(document, dict) else None
    if not isinstance(document, dict) or any(name not in document for name in QUANTILES):
        raise NormalizationError(
            f'{path} has no q01 and q99 of the actions; give a file that has them, such as meta/stats.json of a recent '
            'LeRobot data set'
        )
    try:
        if 'mask' in document:
            return ActionNormalizer.from_dict({name: document[name] for name in (*QUANTILES, 'mask')})
        if channels is None:
            raise NormalizationError('does not say which channels it is for; name them')
        return spread_quantiles(document['q01'], document['q99'], channels)
    except NormalizationError as error:
        raise NormalizationError(f'{path}: {error}') from error


def spread_quantiles(q01: Any, q99: Any, channels: Sequence[int]) -> ActionNormalizer:
    """Spread values over the 30 channels: one for each of `channels`, in their order, or 30 of which these are used.

    Raises:
        NormalizationError: there are other numbers of values, or a channel twice or out of range.
    """
    if len(set(channels)) != len(channels) or not all(0 <= channel < ACTION_DIM for channel in channels):
        raise NormalizationError(f'channels are {list(channels)}; give different ones from 0 to {ACTION_DIM - 1}')
    spread = []
    for name, values in zip(QUANTILES, (q01, q99), strict=True):
        if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
            raise NormalizationError(f'{name} is {values!r:.80}; it must be a list of numbers')
        if len(values) not in (len(channels), ACTION_DIM):
            raise NormalizationError(
                f'{name} has {len(values)} values; it must have {ACTION_DIM}, or one for each of the {len(channels)} '
                f'channels {list(channels)}'
            )
        places = channels if len(values) == len(channels) else range(ACTION_DIM)
        row = dict(zip(places, map(float, values), strict=True))
        spread.append(tuple(row[channel] if channel in channels else 0.0 for channel in range(ACTION_DIM)))
    return ActionNormalizer(*spread, tuple(channel in channels for channel in range(ACTION_DIM)))
