"""The state of a run on disk, from which it goes on exactly where it was."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.settings import TrainingError

SETTINGS = 'settings.json'
FOLDER = re.compile(r'state-(\d+)')


def claim_folder(folder: Path, settings: Mapping[str, Any], world: World) -> None:
    """Make the folder of a run, or recognise it.

    Raises:
        TrainingError: something else is in it, or a run with other settings, data or starting weights.
    """
    path, text = folder / SETTINGS, json.dumps(settings, indent=1, sort_keys=True, default=str)
    if path.is_file():
        theirs, ours = json.loads(path.read_text()), json.loads(text)
        if theirs != ours:
            raise TrainingError(
                f'{folder} holds a run with other settings ({_difference(theirs, ours)}); choose another folder, or '
                'repeat its settings, with the same data and starting weights, to go on'
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise TrainingError(f'{folder} exists and holds no run; choose another folder')
    world.barrier()
    if world.first and not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix('.new')
        fresh.write_text(text + '\n')
        fresh.replace(path)
    world.barrier()


def save_state(folder: Path, step: int, tensors: Mapping[str, Tensor], world: World) -> None:
    """Write this process's tensors after `step` steps; the state of all processes appears at once, then old ones go.

    Raises:
        TrainingError: a tensor of some process is not finite; what was saved before stays.
    """
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if world.mean(torch.tensor(float(bool(broken)), device=world.device)) > 0:
        where = f'{broken[0]} is' if broken else "another process's weights are"
        raise TrainingError(
            f'{where} not finite after step {step}; lower optimizer.lr, in another folder; the state before is kept'
        )
    fresh, final = folder / f'.state-{step}', folder / f'state-{step}'
    if world.first:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
    world.barrier()
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, fresh / _file(world))
    world.barrier()
    if world.first:
        if final.exists():
            shutil.rmtree(fresh)
        else:
            fresh.rename(final)
        for number, old in _states(folder):
            if number != step:
                shutil.rmtree(old, ignore_errors=True)
    world.barrier()


def load_state(folder: Path, world: World) -> tuple[int, dict[str, Tensor]] | None:
    """Read the newest state; None if there is none.

    Raises:
        TrainingError: it cannot be read, or was written by another number of processes.
    """
    states = _states(folder)
    if not states:
        return None
    step, newest = states[-1]
    path = newest / _file(world)
    if not path.is_file():
        count = len(list(newest.iterdir()))
        raise TrainingError(f'{newest} was written by {count} processes, not {world.size}; start as many')
    try:
        return step, load_file(path)
    except (SafetensorError, OSError) as error:
        raise TrainingError(f'{path} cannot be read: {error}; delete {newest}') from error


def _file(world: World) -> str:
    return f'{world.rank:05}-of-{world.size:05}.safetensors'


def _states(folder: Path) -> list[tuple[int, Path]]:
    found = [(int(match[1]), path) for path in folder.glob('state-*') if (match := FOLDER.fullmatch(path.name))]
    return sorted(found)


def _difference(theirs: object, ours: object, where: str = '') -> str:
    """Name the first value that differs."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                return _difference(theirs.get(name), ours.get(name), f'{where}.{name}'.lstrip('.'))
    return f'{where} {theirs!r:.60} there, {ours!r:.60} here'
