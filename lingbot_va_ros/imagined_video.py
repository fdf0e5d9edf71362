"""What the world model imagined, decoded: the predicted latents of a recorded episode as camera images."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.streaming import StreamingDecoder
from lingbot_va_core.world_model import WorldModel
from lingbot_va_ros.bag import Bag, BagReadError, nanoseconds
from lingbot_va_ros.episode_bag import EpisodeBag
from lingbot_va_ros.recorded_model import load_noted_model
from lingbot_va_ros.recorded_topics import imagined_topic

DECODING = ('vae',)  # the part of a model that decodes


@dataclass(frozen=True)
class ImaginedFrame:
    """The video frame that the model expected at an instant: uint8 RGB images [H, W, 3], one for each camera.

    Attributes:
        chunk: its number.
        received_ns: log time of the chunk.
    """

    stamp_ns: int
    chunk: int
    images: list[np.ndarray]
    received_ns: int


def load_recorded_model(bag: EpisodeBag) -> WorldModel:
    """Load the model whose name the episode's chunks carry on the CPU, to decode; raises as `load_noted_model`."""
    named = {chunk.model for _, _, chunk in bag.in_episode('action_chunk')}
    return load_noted_model(bag.notes, bag.profile, named, 'cpu', DECODING)


def decodable_model(
    bag: Bag, profile: RobotProfile, device: str | None, say: Callable[[str], None]
) -> WorldModel | None:
    """Load the model that can show what was imagined in a whole bag.

    Returns:
        None where nothing is to be decoded: there are images already, or `say` was told what is missing.
    """
    if any(bag.has(imagined_topic(camera)) for camera in profile.cameras):
        return None
    missing = [topic for topic in ('latents', 'imagined', 'action_chunk') if not bag.has(topic)]
    if missing:
        say(f'imagined video is left out: {bag.path} has no message on {bag.resolve(missing[0])}')
        return None
    named = {chunk.model for _, _, chunk in bag.messages('action_chunk')}
    try:
        return load_noted_model(bag.notes, profile, named, device, DECODING)
    except ValueError as error:  # the checkpoint may be on another machine
        say(f'imagined video is left out: {error}')
        return None


def imagined_frames(
    messages: Callable[[str], Iterable[tuple[str, int, Any]]], cameras: int, model: WorldModel
) -> Iterator[ImaginedFrame]:
    """Decode what was imagined for each chunk, in the order of the chunks.

    The causal decoder needs a past: each chunk goes on from the real latents that the model had seen when it predicted
    the chunk and, in the asynchronous modes, from the imagined ones between these and the chunk. An imagined frame
    belongs to the instant at which its real counterpart was seen, or else to the one that the chunk foresaw.

    Args:
        messages: gives those of a topic as (topic, log time, message): `Bag.messages`, or `EpisodeBag.in_episode`.
        cameras: how many the robot has.
        model: that imagined.

    Raises:
        BagReadError: a latent frame does not have the model's shape.
    """
    run_of = _Runs(messages('episode'))
    real = {
        (run_of(frame, log_ns), frame.index): frame for _, log_ns, frame in messages('latents') if not frame.missing
    }
    imagined: dict[tuple[tuple[int, int], int], list[tuple[int, Any]]] = {}
    for _, log_ns, frame in messages('imagined'):
        imagined.setdefault((run_of(frame, log_ns), frame.index), []).append((log_ns, frame))
    decoder = StreamingDecoder(model.vae, model.config.rollout, cameras, model.device)
    run, newest_seen, decoded = (0, 0), -1, -1  # latent indices
    for _, log_ns, chunk in messages('action_chunk'):
        if run_of(chunk, log_ns) != run:
            run, newest_seen, decoded = run_of(chunk, log_ns), -1, -1
            decoder.reset()
        newest_seen = max([newest_seen, *(i for i in chunk.observation_indices if i < chunk.first_latent_index)])
        for index in range(decoded + 1, newest_seen + 1):
            if (run, index) in real:
                decoder.decode(_tensor(real[run, index], model))
        decoded = newest_seen
        after_reality = decoder.state
        for index in range(newest_seen + 1, chunk.first_latent_index + chunk.latent_frames):
            if (run, index) not in imagined:
                continue
            _, frame = min(imagined[run, index], key=lambda candidate: abs(candidate[0] - log_ns))
            views = decoder.decode(_tensor(frame, model))
            if index >= chunk.first_latent_index:
                stamps = _video_stamps(chunk, index, real.get((run, index)))
                # The first latent of an episode stands for one frame.
                for stamp, images in zip(stamps[-len(views) :], views, strict=True):
                    yield ImaginedFrame(stamp, chunk.chunk, images, log_ns)
        decoder.state = after_reality


class _Runs:
    """Tells episodes of one number apart: each graph begins to count again, and announces with another stamp."""

    def __init__(self, announced: Iterable[tuple[str, int, Any]]) -> None:
        self._begins: dict[int, list[int]] = {}  # log times, by number
        stamps: dict[int, int] = {}
        for _, log_ns, message in announced:
            stamp = nanoseconds(message.header.stamp)
            if stamps.get(message.episode) != stamp:
                stamps[message.episode] = stamp
                self._begins.setdefault(message.episode, []).append(log_ns)

    def __call__(self, message: Any, log_ns: int) -> tuple[int, int]:
        """Return the number of a message's episode, and how many others had it before."""
        before = bisect_right(self._begins.get(message.episode, []), log_ns) - 1
        return message.episode, max(before, 0)  # what overtook the first announcement belongs to it


def _video_stamps(chunk: Any, index: int, observed: Any | None) -> list[int]:
    """Return when the four video frames of a chunk's latent frame were seen, or were expected."""
    if observed and len(observed.frame_stamps) == VIDEO_FRAMES_PER_LATENT:
        return [nanoseconds(stamp) for stamp in observed.frame_stamps]
    frame_ns = chunk.actions_per_latent * nanoseconds(chunk.dt)
    begin = nanoseconds(chunk.header.stamp) + (index - chunk.first_latent_index) * frame_ns
    return [begin + (j + 1) * frame_ns // VIDEO_FRAMES_PER_LATENT for j in range(VIDEO_FRAMES_PER_LATENT)]


def _tensor(frame: Any, model: WorldModel) -> Tensor:
    """Return the latents of a message, float32 [1, C, h, w]."""
    shape = (frame.channels, frame.height, frame.width)
    if shape != model.config.latent_shape:
        raise BagReadError(f'a latent frame is {shape}, but the model {model.name} has {model.config.latent_shape}')
    values = np.frombuffer(frame.data.tobytes(), dtype='<f2').astype(np.float32)
    return torch.from_numpy(values.reshape(1, *shape))
