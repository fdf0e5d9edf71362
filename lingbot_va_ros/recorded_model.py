"""Loads the model that the notes of a recording name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lingbot_va_core.checkpoint import CheckpointError, WorldModel, load_model
from lingbot_va_core.checkpoint_digest import checkpoint_digest
from lingbot_va_core.devices import AUTO, dtype_of, usable_device
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.world_model import PARTS
from lingbot_va_ros.model_notes import WEIGHTS


def load_noted_model(
    notes: Mapping[str, str],
    profile: RobotProfile,
    named: set[str],
    device: str | None = None,
    parts: Sequence[str] = PARTS,
) -> WorldModel:
    """Load the model of a recording, on a device or on the one that it ran on.

    Args:
        notes: of the bag.
        profile: the robot.
        named: names that the recorded chunks carry.
        device: such as cpu or cuda:0.
        parts: that are needed, 'transformer', 'vae' or both.

    Raises:
        CheckpointError: the notes lead to a model of another name or with other weights, or it cannot be loaded.
        ConfigError, DeviceError: an unknown preset, or a device that this machine lacks.
    """
    checkpoint = notes.get('checkpoint') or None
    if checkpoint and notes.get(WEIGHTS) and Path(checkpoint).is_dir():
        digest = checkpoint_digest(Path(checkpoint))
        if digest != notes[WEIGHTS]:
            raise CheckpointError(
                f'{checkpoint} has changed since the recording (SHA-256 {digest[:12]}…, then {notes[WEIGHTS][:12]}…)'
            )
    place = usable_device(device or notes.get('device', 'cpu'))
    model = load_model(
        checkpoint,
        notes.get('preset', 'tiny'),
        profile=profile,
        seed=int(notes.get('model_seed', 0)),
        device=place,
        dtype=dtype_of(notes.get('dtype', AUTO), place),
        parts=parts,
    )
    if others := named - {model.name}:
        raise CheckpointError(f"the recording was made with the model '{others.pop()}', not with '{model.name}'")
    return model
