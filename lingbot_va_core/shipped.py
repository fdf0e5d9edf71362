"""Which checkpoint is used where none is named: the one that comes with the package, for the robot it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingbot_va_core.devices import AUTO
from lingbot_va_core.model_card import read_document, read_training, trained_for
from lingbot_va_core.resources import share_dir
from lingbot_va_core.weights import CheckpointError

FOLDER = 'checkpoints'  # beside config/, one folder for each preset
UNTRAINED = 'none'


@dataclass(frozen=True)
class Choice:
    """A checkpoint, None for an untrained model, and what people should know of the choice, or ''."""

    checkpoint: str | None
    notice: str = ''


def shipped(preset: str) -> Path:
    """Return where the checkpoint of a preset is, if there is one."""
    return share_dir() / FOLDER / preset


def choose_checkpoint(named: str | None, preset: str, robot: str) -> Choice:
    """Choose the checkpoint to run.

    Args:
        named: folder or Hub id; 'none': an untrained model; 'auto', '' or None: the shipped one, or an untrained model
            where there is none for this preset and this robot.
        preset: of the model.
        robot: name of the robot's profile.

    Raises:
        CheckpointError: the shipped one is broken.
    """
    if named == UNTRAINED:
        return Choice(None, 'the model is untrained, as asked for')
    if named and named != AUTO:
        return Choice(named)
    folder = shipped(preset)
    if not folder.is_dir():
        return Choice(None, f'the model is untrained: no checkpoint comes with this package for the preset {preset}')
    own, _ = trained_for(read_training(read_document(folder)))
    if own != robot:
        return Choice(None, f"the model is untrained: {folder} was trained for robot '{own}', not for '{robot}'")
    return Choice(str(folder))


def known_training(checkpoint: str | None) -> tuple[Mapping[str, Any], ...]:
    """Return the runs that a local checkpoint of our own layout comes from; () for others."""
    try:
        return read_training(read_document(Path(checkpoint))) if checkpoint else ()
    except CheckpointError:
        return ()
