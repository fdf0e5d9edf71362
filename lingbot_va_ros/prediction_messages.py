"""The messages of a prediction: the action chunk, the frames imagined with it, and how far they were from what came."""

from collections.abc import Iterator

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.prediction_error import PredictionError
from lingbot_va_core.robot import RobotProfile
from lingbot_va_msgs.msg import ActionChunk, LatentFrame
from lingbot_va_msgs.msg import PredictionError as PredictionErrorMessage
from lingbot_va_ros.conversions import actions_field, latent_message, to_duration, to_time
from lingbot_va_ros.inference import Prediction


def chunk_message(prediction: Prediction, mode: int, model: str, profile: RobotProfile) -> ActionChunk:
    """Pack the actions of a prediction, and where they come from; `mode` is a constant of Episode."""
    chunk, placement = prediction.chunk, prediction.placement
    message = ActionChunk(
        episode=prediction.episode,
        chunk=chunk.index,
        first_latent_index=chunk.first_latent_index,
        latent_frames=len(chunk.actions),
        actions_per_latent=profile.clock.actions_per_latent,
        dt=to_duration(placement.dt_ns),
        mask=profile.mask.tolist(),
        actions=actions_field(chunk.actions),
        mode=mode,
        model=model,
        observation_indices=list(chunk.observation_indices),
        observation_stamps=[to_time(stamp) for stamp in prediction.observation_stamps],
        imagined_indices=list(chunk.imagined_indices),
        executed_indices=list(chunk.executed_indices),
        grounding_ms=1e3 * chunk.grounding_s,
        video_ms=1e3 * chunk.video_s,
        action_ms=1e3 * chunk.action_s,
        latency_ms=1e-6 * prediction.latency_ns,
        margin_ms=1e-6 * placement.margin_ns,
    )
    message.header.stamp = to_time(placement.start_ns)
    return message


def imagined_messages(prediction: Prediction, model: str, profile: RobotProfile) -> Iterator[LatentFrame]:
    """Pack the latent frames that the model expects while the chunk is executed."""
    chunk, placement = prediction.chunk, prediction.placement
    video_ns = placement.dt_ns * (profile.clock.video_ns // profile.clock.action_ns)
    for i, latent in enumerate(chunk.latents.numpy()):
        first = i * VIDEO_FRAMES_PER_LATENT
        stamps = [placement.start_ns + (first + j + 1) * video_ns for j in range(VIDEO_FRAMES_PER_LATENT)]
        message = latent_message(latent, prediction.episode, chunk.first_latent_index + i, stamps, model, profile)
        message.imagined = True
        yield message


def error_message(episode: int, error: PredictionError, stamp_ns: int) -> PredictionErrorMessage:
    """Pack a prediction error; `stamp_ns` is that of the real frame."""
    message = PredictionErrorMessage(
        episode=episode, latent_index=error.index, chunk=error.chunk, error=error.error, change=error.change
    )
    message.header.stamp = to_time(stamp_ns)
    return message
