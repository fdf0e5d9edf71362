"""How good replayed chunks are: imagined video against what came, actions against what was executed, time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lingbot_va_core.canvas import to_images, to_pixels
from lingbot_va_core.imagined_stream import ImaginedStream
from lingbot_va_core.prediction_error import PredictionErrors
from lingbot_va_core.robot import ACTION_DIM, RobotProfile
from lingbot_va_core.streaming import StreamingDecoder
from lingbot_va_core.world_model import WorldModel
from lingbot_va_ros.recorded_run import RecordedRun
from lingbot_va_ros.replay import Replayed, ReplayError

# Channels of the universal action, and the unit of their distance.
GROUPS = {
    'left_position': (slice(0, 3), 'm'),
    'left_orientation': (slice(3, 7), 'quaternion'),
    'right_position': (slice(7, 10), 'm'),
    'right_orientation': (slice(10, 14), 'quaternion'),
    'left_joints': (slice(14, 21), 'rad'),
    'right_joints': (slice(21, 28), 'rad'),
    'left_gripper': (slice(28, 29), 'in the unit of the profile'),
    'right_gripper': (slice(29, 30), 'in the unit of the profile'),
}


@dataclass(frozen=True)
class Compared:
    """A latent frame that was imagined, and came; uint8 RGB [H, W, 3] of each camera, its last video frame.

    Attributes:
        error: root mean square of imagined - real over all cameras' pixels and all of its video frames, in levels of 0
            to 255.
        change: the same for the last image before it in place of what was imagined.
    """

    index: int
    imagined: list[np.ndarray]
    real: list[np.ndarray]
    error: float
    change: float


def action_groups(profile: RobotProfile) -> dict[str, tuple[list[int], str]]:
    """Return the channels that a robot uses, by group, and the unit of the group."""
    groups = {
        name: (np.arange(ACTION_DIM)[part][profile.mask[part]].tolist(), unit) for name, (part, unit) in GROUPS.items()
    }
    return {name: group for name, group in groups.items() if group[0]}


def evaluate(run: RecordedRun, chunks: Sequence[Replayed], profile: RobotProfile) -> dict[str, Any]:
    """Summarize the chunks of an episode.

    Returns:
        latent_error: mean over the frames that came of the root mean square of imagined - real, relative to the real
            frame; recorded_latent_error: that of what was imagined then; change: of imagining no motion.
        action_distance: root mean square of predicted - executed actions by channel group, in the group's unit; and
            recorded_action_distance, that of what was predicted then.
        latency_ms {p50, max}: of a prediction on this machine; recorded_latency_ms: then, on that one.

    A number that has no data is None.

    Raises:
        ReplayError: a recorded chunk contradicts itself.
    """
    errors = PredictionErrors()
    for replayed in chunks:
        errors.imagine(replayed.chunk)
    found = [error for index in sorted(run.latents) for error in errors.observe(index, run.latents[index])]
    ours = [(index, actions) for each in chunks for index, actions in _by_frame(each.chunk)]
    theirs = [(index, actions) for message in run.chunks for index, actions in _message_by_frame(message)]
    seconds = [1e3 * each.seconds for each in chunks]
    latencies = [message.latency_ms for message in run.chunks]
    return {
        'chunks': len(chunks),
        'latent_error': _mean([error.error for error in found]),
        'recorded_latent_error': _mean([run.errors[error.index] for error in found if error.index in run.errors]),
        'change': _mean([error.change for error in found]),
        'action_distance': _distances(run, ours, profile),
        'recorded_action_distance': _distances(run, theirs, profile),
        'latency_ms': {'p50': float(np.median(seconds)), 'max': max(seconds)},
        'recorded_latency_ms': {'p50': float(np.median(latencies)), 'max': float(max(latencies))},
    }


def compared_frames(
    chunks: Iterable[Replayed],
    run: RecordedRun,
    frames: Iterable[tuple[int, list[list[np.ndarray]]]],
    model: WorldModel,
) -> Iterator[Compared]:
    """Decode what was imagined, beside the real images in the size of the model's views, in order.

    Args:
        chunks: predicted with this model.
        run: whose latent frames are those of this model's VAE.
        frames: of the episode, see `video_frames`.
        model: decodes.
    """
    rollout, frames = model.config.rollout, iter(frames)
    stream = ImaginedStream(StreamingDecoder(model.vae, rollout, rollout.cameras, model.device))
    known, real = -1, []
    for replayed in chunks:
        chunk = replayed.chunk
        for index in chunk.observation_indices:
            stream.observe(index, torch.from_numpy(run.latents[index]))
        for index, latent in enumerate(chunk.latents, chunk.first_latent_index):
            imagined = stream.imagine(index, latent)
            while known < index:
                before, (known, images) = real[-1:], next(frames, (None, []))
                if known is None:
                    return
                real = [_views(each, rollout.view_sizes) for each in images]
            came = real[-len(imagined) :]
            yield Compared(
                index, imagined[-1], real[-1], _distance(imagined, came), _distance(before * len(came), came)
            )


def _distance(one: Sequence[list[np.ndarray]], other: Sequence[list[np.ndarray]]) -> float:
    """Return the root mean square of the difference of images, `[time][camera]`; cameras count by their pixels."""
    squares = [
        np.square(ours.astype(np.float32) - theirs).ravel()
        for views, others in zip(one, other, strict=True)
        for ours, theirs in zip(views, others, strict=True)
    ]
    return float(np.sqrt(np.mean(np.concatenate(squares))))


def _views(images: list[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Resize a camera's image as the encoder does."""
    cpu = torch.device('cpu')
    return [to_images(to_pixels([image], size, cpu))[0] for image, size in zip(images, sizes, strict=True)]


def _by_frame(chunk: Any) -> list[tuple[int, np.ndarray]]:
    return list(enumerate(chunk.actions, chunk.first_latent_index))


def _message_by_frame(message: Any) -> list[tuple[int, np.ndarray]]:
    shape = (message.latent_frames, message.actions_per_latent, ACTION_DIM)
    if len(message.actions) != np.prod(shape):
        raise ReplayError(
            f'chunk {message.chunk} was recorded with {len(message.actions)} numbers, not {np.prod(shape)}'
        )
    actions = np.asarray(message.actions, dtype=np.float32).reshape(shape)
    return list(enumerate(actions, message.first_latent_index))


def _distances(
    run: RecordedRun, predicted: Sequence[tuple[int, np.ndarray]], profile: RobotProfile
) -> dict[str, float | None]:
    pairs = [(actions, run.executed[index]) for index, actions in predicted if index in run.executed]
    gaps = np.stack([ours - theirs for ours, theirs in pairs]) if pairs else None
    return {
        name: None if gaps is None else float(np.sqrt(np.mean(np.square(gaps[..., channels], dtype=np.float64))))
        for name, (channels, _) in action_groups(profile).items()
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
