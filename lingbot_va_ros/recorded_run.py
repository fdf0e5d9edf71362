"""What a bag has of the episodes that a world model drove: its inputs, and the chunks that it made of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT, LatentClock
from lingbot_va_core.robot import RobotProfile
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.world_model import WorldModel
from lingbot_va_ros.bag import Bag, BagReadError, nanoseconds
from lingbot_va_ros.bag_motion import Cut, Span, read_motion, rgb
from lingbot_va_ros.bag_topics import find_topics
from lingbot_va_ros.conversions import executed_array, latent_array
from lingbot_va_ros.modes import MODES

TOPICS = ('episode', 'status', 'action_chunk', 'latents', 'imagined', 'executed_actions', 'prediction_error')
PREDICTING = 2  # Status.state


@dataclass
class RecordedRun:
    """One episode of the graph.

    Attributes:
        episode, task: their numbers.
        mode: of `MODES`.
        begin_ns: stamp of its announcement.
        instruction: with which it began.
        chunks: ActionChunk messages, in order.
        instructions: in force at a chunk, by its number, as far as the status said.
        latents, imagined: float32 [C, h, w] by latent frame.
        executed: float32 [n, 30] by latent frame.
        errors: what `prediction_error` said, by latent frame.
    """

    episode: int
    task: int
    mode: str
    begin_ns: int
    instruction: str
    chunks: list[Any] = field(default_factory=list)
    instructions: dict[int, str] = field(default_factory=dict)
    latents: dict[int, np.ndarray] = field(default_factory=dict)
    imagined: dict[int, np.ndarray] = field(default_factory=dict)
    executed: dict[int, np.ndarray] = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)

    def add(self, topic: str, message: Any, clock: LatentClock) -> None:
        """Take a message of this episode, in the classes of rclpy or of rosbags.

        Raises:
            MessageError: its sizes contradict each other.
        """
        if topic == 'action_chunk':
            self.chunks.append(message)
        elif topic == 'status' and message.state == PREDICTING:
            self.instructions.setdefault(message.chunks, message.instruction)  # later ones came during the prediction
        elif topic == 'latents' and not message.missing:
            self.latents[message.index] = latent_array(message)
        elif topic == 'imagined':
            self.imagined[message.index] = latent_array(message)
        elif topic == 'executed_actions':
            self.executed[message.latent_index] = executed_array(message, clock)
        elif topic == 'prediction_error':
            self.errors[message.latent_index] = message.error


def read_runs(messages: Iterable[tuple[str, Any]], clock: LatentClock) -> list[RecordedRun]:
    """Sort messages, as (name in TOPICS, message), into the episodes in which there was a chunk.

    A number that is announced with another stamp is that of another graph, to which belongs what comes from then on.

    Raises:
        MessageError: the sizes in a message contradict each other.
    """
    runs: list[RecordedRun] = []
    newest: dict[int, RecordedRun] = {}
    for topic, message in messages:
        number = message.episode
        if topic == 'episode':
            begin = nanoseconds(message.header.stamp)
            if number and (number not in newest or newest[number].begin_ns != begin):
                newest[number] = RecordedRun(number, message.task, MODES[message.mode], begin, message.instruction)
                runs.append(newest[number])
        elif number in newest:
            newest[number].add(topic, message, clock)
    return [run for run in runs if run.chunks]


def runs_in_bag(bag: Bag, profile: RobotProfile) -> list[RecordedRun]:
    """Return the episodes of a bag in which there was a chunk.

    Raises:
        BagReadError: there is none.
        MessageError: the sizes in a message contradict each other.
    """
    runs = read_runs(((topic, message) for topic, _, message in bag.messages(*TOPICS)), profile.clock)
    if not runs:
        raise BagReadError(f'{bag.path} has no action chunk of an episode; only runs of a world model can be replayed')
    return runs


def video_frames(bag: Bag, profile: RobotProfile, run: RecordedRun) -> Iterator[tuple[int, list[list[np.ndarray]]]]:
    """Yield (latent frame, its video frames as uint8 RGB [H, W, 3] of each camera), as perception takes them.

    Frame 0 has one video frame, every other one four. They end where perception had to give up.

    Raises:
        BagReadError: images, joints or reports are missing from the bag, or cannot be used.
    """
    cameras = find_topics(bag, profile).cameras
    index, frames = 0, []
    span = Span(run.begin_ns, episode=run.episode, announced_ns=run.begin_ns)
    for _, row in read_motion(bag, profile, [span]):
        if isinstance(row, Cut):
            return
        pairs = zip(cameras, row.frames, strict=True)
        frames.append([rgb(bag, profile, topic, i, *frame) for i, (topic, frame) in enumerate(pairs)])
        if len(frames) == (VIDEO_FRAMES_PER_LATENT if index else 1):
            yield index, frames
            index, frames = index + 1, []


def encoded_latents(bag: Bag, profile: RobotProfile, run: RecordedRun, model: WorldModel) -> dict[int, np.ndarray]:
    """Return what perception would make of the recorded images with a model's VAE: float32 [C, h, w] by latent frame.

    As in messages, the values are rounded to half precision.
    """
    encoder = StreamingEncoder(model.vae, model.config.rollout, len(profile.cameras), model.device)
    return {
        index: encoder.encode(frames)[0].to(torch.float16).to(torch.float32).numpy()
        for index, frames in video_frames(bag, profile, run)
    }
