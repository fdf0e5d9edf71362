"""What is noted of a training run, for the checkpoint and its card: data, command, hardware, time, losses."""

import csv
import os
import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.datasets.reader import Dataset
from lingbot_va_core.hardware import describe_hardware
from lingbot_va_core.training.distributed import World
from lingbot_va_core.training.logs import CSV
from lingbot_va_core.training.settings import RunSettings

HELD_OUT = 'held_out_'


def run_record(
    what: str,
    arguments: Sequence[str],
    datasets: Sequence[tuple[Dataset, float]],
    start: str,
    run: RunSettings,
    world: World,
) -> dict[str, Any]:
    """Return what is known of a run when it begins, as JSON.

    Args:
        what: 'vae' or 'policy'.
        arguments: of the command.
        datasets: with their weights; the first one is of the robot that the model is for.
        start: name of the model that is trained.
        run: batch and seed.
        world: the processes.
    """
    return {
        'what': what,
        'command': portable_command(arguments),
        'date': date.today().isoformat(),
        'robot': datasets[0][0].spec.robot,
        'start': start,
        'datasets': [{**_describe(dataset), 'weight': weight} for dataset, weight in datasets],
        'clips_per_step': run.batch * run.accumulate,
        'seed': run.seed,
        'hardware': {**describe_hardware(world.device), 'processes': world.size},
    }


def outcome(folder: Path) -> dict[str, Any]:
    """Read from a run's log how many steps it had, how many seconds they took, and the last losses on held-out data."""
    steps, seconds = 0, 0.0
    held_out: dict[str, float] = {}
    with (folder / CSV).open(newline='') as file:
        for row in csv.DictReader(file):
            if row['seconds_per_step']:
                seconds += (int(row['step']) - steps) * float(row['seconds_per_step'])
                steps = int(row['step'])
            losses = {name: value for name, value in row.items() if name.startswith(HELD_OUT) and value}
            held_out = {name.removeprefix(HELD_OUT): float(value) for name, value in losses.items()} or held_out
    return {'steps': steps, 'seconds': round(seconds), 'held_out': held_out}


def portable_command(arguments: Sequence[str]) -> str:
    """Return the command without the folders that are this machine's alone: paths begin where they differ."""
    paths = [argument for argument in arguments if argument.startswith('/')]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    return shlex.join(['lingbot-va', *(os.path.relpath(each, common) if each in paths else each for each in arguments)])


def _describe(dataset: Dataset) -> dict[str, Any]:
    episodes = list(dataset)
    seeds = [episode.attributes['seed'] for episode in episodes if 'seed' in episode.attributes]
    frames = sum(episode.frames for episode in episodes)
    return {
        'name': dataset.root.resolve().name,
        'robot': dataset.spec.robot,
        'episodes': len(episodes),
        'seeds': [min(seeds), max(seeds)] if seeds else None,
        'minutes': round(frames * dataset.spec.clock.video_ns / NANOSECONDS / 60, 1),
        'instructions': list(dict.fromkeys(episode.instruction for episode in episodes)),
    }
