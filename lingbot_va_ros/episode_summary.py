"""The numbers of a recorded episode, from its bag alone."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_ros.bag import nanoseconds
from lingbot_va_ros.episode_bag import EpisodeBag

HOLD = -1  # DualArmCommand.action_index
MILLISECOND = NANOSECONDS // 1000


def summarize(bag: EpisodeBag) -> dict[str, Any]:
    """Summarize the last task of an open bag, all its episodes together.

    Returns:
        success: `task_success` was reported true within the episode.
        robot, task, instruction, mode, checkpoint: what was run; task and checkpoint are None where unknown or none.
        model: the model that the chunks name, None without chunks.
        episode_s: from the episode's announcement to its end.
        command_rate_hz, command_period_ms {p50, p99, max}: of the commands' header stamps.
        chunk_latency_ms {p50, p99}: from the last input of a chunk to its publication.
        chunk_motion_ms: how long the arms move with one chunk (median).
        chunk_margin_ms {p1, p50}: motion that was left when a chunk came, of all but the first ones of an episode;
            negative where the arms had to wait, as they do by design in mode sync.
        chunks: action chunks published.
        restarts: how often the world model had to restart its context.
        starved_ticks: commands that repeated the last one although the motion should have gone on, see `_starved`.
        held_ticks: all commands without an action: before the first chunk, in the pauses of mode sync, starved.
        images_received, images_dropped: by perception since its activation, all cameras together; None without its
            diagnostics.
        camera_hz: rate of each camera within the episode, from header stamps.
        recorder_dropped: messages that the recorder received but could not write, by topic.

    A rate or percentile that has no data is None.
    """
    episode = bag.episode
    commands = [message for _, _, message in bag.in_episode('command')]
    stamps = np.array([nanoseconds(message.header.stamp) for message in commands], dtype=np.int64)
    holds = [message for message in commands if message.action_index == HOLD]
    chunks = [chunk for _, _, chunk in bag.in_episode('action_chunk')]
    latencies = [chunk.latency_ms for chunk in chunks]
    images = _image_counts(bag)
    return {
        'success': any(message.data for _, _, message in bag.messages('task_success')),
        'robot': bag.profile.name,
        'task': bag.notes.get('task') or None,
        'instruction': episode.instruction,
        'mode': episode.mode,
        'checkpoint': bag.notes.get('checkpoint') or None,
        'model': chunks[0].model if chunks else None,
        'episode_s': (episode.end_ns - episode.start_ns) / NANOSECONDS,
        'command_rate_hz': _rate(stamps),
        'command_period_ms': _percentiles(np.diff(stamps) / MILLISECOND, (50, 99), largest=True),
        'chunk_latency_ms': _percentiles(latencies, (50, 99)),
        'chunk_margin_ms': _percentiles([chunk.margin_ms for chunk in chunks if chunk.chunk], (1, 50)),
        'chunk_motion_ms': float(np.median([_motion_ns(chunk) / MILLISECOND for chunk in chunks])) if chunks else None,
        'chunks': len(chunks),
        'restarts': len(episode.numbers) - 1,
        'starved_ticks': sum(_starved(*each, gapless=episode.mode != 'sync') for each in _by_episode(holds, chunks)),
        'held_ticks': len(holds),
        'images_received': images.get('images_received'),
        'images_dropped': images.get('images_dropped'),
        'camera_hz': _camera_rates(bag),
        'recorder_dropped': json.loads(bag.notes.get('dropped', '{}')),
    }


def _by_episode(holds: Sequence[Any], chunks: Sequence[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield holds and chunks of each episode that has chunks."""
    for number in sorted({chunk.episode for chunk in chunks}):
        yield [hold for hold in holds if hold.episode == number], [each for each in chunks if each.episode == number]


def _starved(holds: Sequence[Any], chunks: Sequence[Any], gapless: bool) -> int:
    """Count the holds of an episode, by the stamps of their commands, that were not meant.

    A command aims one control period ahead of its stamp, and a chunk plans motion from its `header.stamp` (exclusive)
    to its last action's instant (inclusive). A hold that aims into that span means that the chunk came late and lost
    actions. In mode sync the arms hold between chunks on purpose. In the asynchronous modes (`gapless`) consecutive
    chunks are one motion, so every hold after the beginning of the first one means that a successor was late.
    """
    period = nanoseconds(chunks[0].dt)
    aims = np.array([nanoseconds(hold.header.stamp) + period for hold in holds], dtype=np.int64)
    spans = [(nanoseconds(chunk.header.stamp), _motion_ns(chunk)) for chunk in chunks]
    if gapless:
        return int((aims > min(start for start, _ in spans)).sum())
    within = np.zeros(len(aims), dtype=bool)
    for start, motion in spans:
        within |= (aims > start) & (aims <= start + motion)
    return int(within.sum())


def _motion_ns(chunk: Any) -> int:
    return chunk.latent_frames * chunk.actions_per_latent * nanoseconds(chunk.dt)


def _image_counts(bag: EpisodeBag) -> dict[str, int]:
    """Add up the newest `images_received` and `images_dropped` of every diagnostic status that has them."""
    newest: dict[tuple[str, str], int] = {}
    for _, _, array in bag.messages('/diagnostics'):
        for status in array.status:
            for pair in status.values:
                if pair.key in ('images_received', 'images_dropped'):
                    newest[pair.key, status.name] = int(pair.value)
    totals: dict[str, int] = {}
    for (key, _), count in newest.items():
        totals[key] = totals.get(key, 0) + count
    return totals


def _camera_rates(bag: EpisodeBag) -> dict[str, float | None]:
    topics = {camera.name: bag.image_topic(camera) or camera.topic for camera in bag.profile.cameras}
    stamps: dict[str, list[int]] = {topic: [] for topic in topics.values()}
    for topic, _, image in bag.messages(*stamps):
        stamp = nanoseconds(image.header.stamp)
        if bag.episode.start_ns <= stamp <= bag.episode.end_ns:
            stamps[topic].append(stamp)
    return {name: _rate(np.array(stamps[topic])) for name, topic in topics.items()}


def _rate(stamps: np.ndarray) -> float | None:
    if len(stamps) < 2 or stamps[-1] == stamps[0]:
        return None
    return float((len(stamps) - 1) * NANOSECONDS / (stamps[-1] - stamps[0]))


def _percentiles(
    values: Sequence[float] | np.ndarray, levels: tuple[int, ...], largest: bool = False
) -> dict[str, float | None]:
    found = {f'p{level}': float(np.percentile(values, level)) if len(values) else None for level in levels}
    if largest:
        found['max'] = float(np.max(values)) if len(values) else None
    return found
