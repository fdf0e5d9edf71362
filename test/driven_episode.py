"""Writes the bag of an episode that a model drove in mode fdm, as the graph would, without one and in little time."""

import array
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Duration
from recorded_episode import CLOCK, DT, INSTRUCTION, ORIGIN, PROFILE, VIDEO, RecordedEpisode, picture, time
from sensor_msgs.msg import Image, JointState

from lingbot_va_core.pacing import Placement
from lingbot_va_core.prediction_error import PredictionErrors
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_msgs.msg import DualArmCommand, Episode, ExecutedActions, Status
from lingbot_va_ros.conversions import actions_field
from lingbot_va_ros.inference import Prediction
from lingbot_va_ros.prediction_messages import chunk_message, error_message, imagined_messages

OTHER = 'put the cube down'  # from the third chunk on
LATENT = CLOCK.latent_ns
SEED = 7
CHUNKS = 3  # of the bag that most tests look at


def drive(
    path: Path, chunks: int = CHUNKS, latents: bool = True, kind: type[RecordedEpisode] = RecordedEpisode
) -> None:
    """Write a bag with so many chunks of preset tiny; all but the first begin before their past has been observed.

    Args:
        path: of the bag.
        chunks: to predict.
        latents: whether the latent frames are in the bag, beside the images.
        kind: of the bag in the making.
    """
    bag = kind(path, Episode.FDM, noise_seed=str(SEED))
    bag.announce(None)
    session, size = Session(bag.model, 'fdm', SEED), bag.model.config.rollout.chunk_frames
    encoder = StreamingEncoder(bag.model.vae, bag.model.config.rollout, len(PROFILE.cameras))
    session.start(INSTRUCTION)
    planned: dict[int, tuple[int, int, np.ndarray]] = {}  # chunk, first action's index within it, actions
    errors = PredictionErrors()
    observed = executed = 0

    def see(index: int) -> None:
        first = 4 * index - 3 if index else 0
        frames = [[picture(n, camera) for camera in range(len(PROFILE.cameras))] for n in range(first, 4 * index + 1)]
        for number, views in enumerate(frames, first):
            _images(bag, ORIGIN + number * VIDEO, views)
        latent = encoder.encode(frames)[0].numpy().astype(np.float16).astype(np.float32)
        if latents:
            bag.latent('latents', ORIGIN + 4 * index * VIDEO, index, latent)
        session.observe(index, latent)
        for error in errors.observe(index, latent):
            at_ns = ORIGIN + 4 * index * VIDEO
            bag.add('prediction_error', at_ns, error_message(bag.episode, error, at_ns))

    def execute(index: int) -> None:
        begin = ORIGIN + (index - 1) * LATENT
        number, first, actions = planned[index]
        for k, row in enumerate(actions):
            command = DualArmCommand(episode=bag.episode, chunk=number, action_index=first + k, values=row)
            command.mask, command.header.stamp = PROFILE.mask.tolist(), time(begin + (k + 1) * DT)
            bag.add('command', begin + (k + 1) * DT, command)
        message = ExecutedActions(episode=bag.episode, latent_index=index, dt=Duration(nanosec=DT))
        message.actions, message.mask = actions_field(actions), PROFILE.mask.tolist()
        message.video_stamps = [time(begin + (j + 1) * VIDEO) for j in range(4)]
        message.header.stamp = time(begin)
        bag.add('executed_actions', begin + LATENT, message)
        session.executed(index, actions)

    see(0)
    for number in range(chunks):
        end = number * size  # one past the last planned frame
        while observed < end - size:  # everything before the last chunk, and its first frame
            if executed == observed:
                executed += 1
                execute(executed)
            observed += 1
            see(observed)
        if number > 1:  # one more report, whose images are not encoded yet
            executed += 1
            execute(executed)
        text = INSTRUCTION if number < 2 else OTHER
        session.set_instruction(text)
        now = ORIGIN + observed * LATENT + VIDEO // 2
        bag.add('status', now, Status(episode=bag.episode, state=Status.PREDICTING, chunks=number, instruction=text))
        chunk = session.predict()
        start = ORIGIN + (chunk.first_latent_index - 1) * LATENT
        placement = Placement(start, DT, 0, 1.0)
        stamps = tuple(ORIGIN + index * LATENT for index in chunk.observation_indices)
        prediction = Prediction(bag.episode, chunk, placement, stamps, 50_000_000)
        bag.add('action_chunk', now + 1, chunk_message(prediction, Episode.FDM, bag.model.name, PROFILE))
        for message in imagined_messages(prediction, bag.model.name, PROFILE):
            message.episode = bag.episode
            bag.add('imagined', now + 2, message)
        errors.imagine(chunk)
        for offset, actions in enumerate(chunk.actions):
            planned[chunk.first_latent_index + offset] = number, offset * len(actions), actions
    zeros = [0.0] * len(PROFILE.joints)
    names = [joint.name for joint in PROFILE.joints]
    for number in range(-5, (observed + 1) * CLOCK.actions_per_latent):
        joints = JointState(name=names, position=zeros, velocity=zeros, effort=zeros)
        joints.header.stamp = time(ORIGIN + number * DT)
        bag.add(PROFILE.joint_states_topic, ORIGIN + number * DT, joints)
    bag.close()


def _images(bag: RecordedEpisode, at_ns: int, views: list[np.ndarray]) -> None:
    for camera, view in zip(PROFILE.cameras, views, strict=True):
        message = Image(height=view.shape[0], width=view.shape[1], step=3 * view.shape[1], encoding='rgb8')
        message.data = array.array('B', view.tobytes())
        message.header.stamp = time(at_ns)
        bag.add(camera.image_topic, at_ns, message)
