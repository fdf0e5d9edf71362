"""The card of a checkpoint: README.md with the metadata of the Hugging Face Hub, made of config.json and of results."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lingbot_va_core.hardware import hardware_line
from lingbot_va_core.weights import CheckpointError, stored_tensors

CARD = 'README.md'
FENCE = '---\n'
DATA_FIELDS = {'name', 'robot', 'episodes', 'seeds', 'minutes', 'instructions', 'weight'}  # see `training.record`
STAGES = {'vae': 'Video VAE', 'policy': 'World model'}
UNMEASURED = 'Not measured yet: `lingbot-va results --checkpoint FOLDER` measures, and adds the numbers here.'


def read_training(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return what config.json says of the runs that a checkpoint comes from; raises CheckpointError."""
    training = document.get('training', [])
    if not isinstance(training, list) or not all(isinstance(stage, dict) for stage in training):
        raise CheckpointError(f'training is {training!r:.80}; it must be a list of runs')
    for data in (data for stage in training for data in stage.get('datasets', ())):
        if not isinstance(data, dict) or not set(data) >= DATA_FIELDS:
            raise CheckpointError(
                f'training: a data set is {data!r:.80}; it must have {", ".join(sorted(DATA_FIELDS))}'
            )
    return tuple(training)


def trained_for(training: Sequence[Mapping[str, Any]]) -> tuple[str | None, tuple[str, ...]]:
    """Return robot and instructions of the last run, those that a model is for; None and () if nothing is known."""
    if not training:
        return None, ()
    robot = training[-1].get('robot')
    own = [data for data in training[-1].get('datasets', ()) if data['robot'] == robot]
    return robot, tuple(dict.fromkeys(text for data in own for text in data['instructions']))


def misfit(name: str, training: Sequence[Mapping[str, Any]], robot: str, instruction: str | None = None) -> str:
    """Say in one line why a model cannot be expected to do something; '' where it can, or nothing is known."""
    own, instructions = trained_for(training)
    if own is not None and own != robot:
        return f"{name} was trained for robot '{own}', not for '{robot}'"
    if instruction is not None and instructions and instruction not in instructions:
        known = ', '.join(f"'{text}'" for text in instructions)
        return f"{name} was trained for {known}, not for '{instruction}'"
    return ''


def write_card(folder: Path, results: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write the card of a checkpoint of our own layout anew.

    Args:
        folder: the checkpoint.
        results: what `summarize` returns of each evaluation, with a `label`; none: the card has no results.

    Raises:
        CheckpointError: the folder is no such checkpoint.
        OSError: the card cannot be written.
    """
    document = read_document(folder)
    fresh = folder / f'.{CARD}.new'
    fresh.write_text(_metadata(document, results) + _page(document['name'], card_lines(folder), results))
    fresh.replace(folder / CARD)


def read_document(folder: Path) -> dict[str, Any]:
    """Return config.json of a checkpoint of our own layout; raises CheckpointError."""
    path = folder / 'config.json'
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f'{path} cannot be read: {error}; give a checkpoint of our own layout') from error
    if not isinstance(document, dict) or not {'name', 'model', 'files'} <= set(document):
        raise CheckpointError(f'{path} is no checkpoint of our own layout')
    return document


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the results in a card's metadata, {'name', 'type', 'value'} each; none without a card.

    Raises:
        CheckpointError: the metadata are broken.
    """
    path = folder / CARD
    if not path.is_file():
        return []
    text = path.read_text()
    try:
        metadata = yaml.safe_load(text.split(FENCE)[1]) if text.startswith(FENCE) else {}
        found = [result for model in metadata.get('model-index', ()) for result in model['results']]
        return [metric for result in found for metric in result['metrics']]
    except (yaml.YAMLError, AttributeError, LookupError, TypeError) as error:
        raise CheckpointError(f'{path}: its metadata cannot be read: {error}') from error


def card_lines(folder: Path) -> list[tuple[str, str]]:
    """Return the facts of a checkpoint of our own layout, each as a name and a text; raises CheckpointError."""
    document = read_document(folder)
    training, parameters = read_training(document), _parameters(folder, document)
    robot, instructions = trained_for(training)
    rollout = document['model']['rollout']
    lines = [
        ('parameters', ', '.join(f'{part} {count / 1e6:.2f} M' for part, count in parameters.items())),
        ('robot', robot or 'unknown'),
        ('instructions', '; '.join(instructions) or 'unknown'),
        ('cameras', f'{rollout["cameras"]}, layout {rollout["camera_layout"]}'),
        ('chunk', f'{rollout["chunk_frames"]} latent frames of {rollout["actions_per_latent"]} actions'),
    ]
    for stage in training:
        lines += [(f'{STAGES.get(stage.get("what"), "run")}: {name}', text) for name, text in _stage(stage)]
    return lines


def _stage(stage: Mapping[str, Any]) -> list[tuple[str, str]]:
    datasets = [
        f'{data["name"]}: {data["episodes"]} episodes, {data["minutes"]:g} min'
        + (f', seeds {data["seeds"][0]} to {data["seeds"][1]}' if data['seeds'] else '')
        + (f', weight {data["weight"]:g}' if data['weight'] != 1 else '')
        for data in stage.get('datasets', ())
    ]
    hardware = stage.get('hardware')
    texts = {
        'data': '; '.join(datasets),
        'started from': stage.get('start', ''),
        'command': f'`{stage["command"]}`' if 'command' in stage else '',
        'seed': str(stage.get('seed', '')),
        'steps': f'{stage["steps"]}, {stage["clips_per_step"]} clips each' if 'clips_per_step' in stage else '',
        'time': f'{stage["seconds"] / 60:.0f} min' if 'seconds' in stage else '',
        'hardware': hardware_line(hardware) + f'; torch {hardware["torch"]}' if hardware else '',
        'held-out losses': ', '.join(f'{name} {value:.4g}' for name, value in stage.get('held_out', {}).items()),
        'date': stage.get('date', ''),
    }
    return [(name, text) for name, text in texts.items() if text]


def _parameters(folder: Path, document: Mapping[str, Any]) -> dict[str, int]:
    """Count the stored numbers of transformer and VAE."""
    return {
        part: sum(math.prod(each.shape) for each in stored_tensors([folder / file for file in files]).values())
        for part, files in document['files'].items()
        if part in ('transformer', 'vae')
    }


def _metadata(document: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    robot, _ = trained_for(read_training(document))
    metadata: dict[str, Any] = {
        'license': 'apache-2.0',
        'library_name': 'lingbot_va',
        'pipeline_tag': 'robotics',
        'tags': ['robotics', 'world-model', 'video-action-model', 'ros2', *([robot] if robot else [])],
    }
    if results:
        metadata['model-index'] = [{'name': document['name'], 'results': [_result(each) for each in results]}]
    return f'{FENCE}{yaml.safe_dump(metadata, sort_keys=False, width=120)}{FENCE}\n'


def _result(numbers: Mapping[str, Any]) -> dict[str, Any]:
    first, last = numbers['seed'], numbers['seed'] + numbers['episodes'] - 1
    return {
        'task': {'type': 'robotics', 'name': numbers['task']},
        'dataset': {'type': 'simulation', 'name': f'{numbers["robot"]}, {numbers["task"]}, seeds {first} to {last}'},
        'metrics': [{'type': 'success_rate', 'name': numbers['label'], 'value': numbers['success_rate']}],
    }


def _page(name: str, facts: Sequence[tuple[str, str]], results: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f'# {name}',
        '',
        'A causal video-action world model for the ROS 2 graph of lingbot_va: it imagines what the cameras will see, '
        'and derives the actions that lead there. It is made for the robot, the cameras and the instructions below, '
        'and knows nothing else.',
        '',
        '```',
        'lingbot-va demo --checkpoint FOLDER',
        'lingbot-va info --checkpoint FOLDER',
        '```',
        '',
        '## Results',
        '',
    ]
    if results:
        lines += ['| | task | solved | rate (95 %) |', '|---|---|---|---|']
        for numbers in results:
            low, high = numbers['confidence_95']
            lines.append(
                f'| {numbers["label"]} | {numbers["task"]} | {numbers["successes"]} of {numbers["episodes"]} '
                f'| {100 * numbers["success_rate"]:.0f} % ({100 * low:.0f} to {100 * high:.0f}) |'
            )
        seeds = sorted({numbers['seed'] for numbers in results})
        lines += ['', f'In simulation, closed loop, virtual time; seeds count up from {", ".join(map(str, seeds))}.']
    else:
        lines.append(UNMEASURED)
    lines += ['', '## Facts', '', '| | |', '|---|---|']
    lines += [f'| {fact} | {text} |' for fact, text in facts]
    return '\n'.join(lines) + '\n'
