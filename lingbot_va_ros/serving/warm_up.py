"""What a server does before its first client comes: the work of an episode, on black images."""

import logging
import time

import numpy as np

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.text import KnownPrompts, TextError
from lingbot_va_ros.serving.policy_session import Policy, PolicySession

LOG = logging.getLogger(__name__)


def warm_up(policy: Policy) -> float:
    """Load the text encoder and play two cycles, so that no client has to wait for what is slow once.

    Without an encoder a model can still be served to clients that keep to the instructions of its checkpoint; a warning
    says so.

    Returns:
        Seconds that the second chunk took.

    Raises:
        TextError: there is no encoder, and the checkpoint holds no instruction either.
        RuntimeError: memory is short, or the model predicted values that are not finite.
    """
    rollout = policy.model.config.rollout
    image = np.zeros((rollout.height, rollout.width, 3), np.uint8)
    frame, session = dict.fromkeys(policy.cameras, image), PolicySession(policy)
    session.answer({'reset': True, 'prompt': _prompt(policy)})
    for given in (1, 0):  # latent frames of the chunk that are not fed back
        started = time.perf_counter()
        action = session.answer({'obs': frame})['action']
        seconds = time.perf_counter() - started
        seen = [frame] * (VIDEO_FRAMES_PER_LATENT * (rollout.chunk_frames - given))
        session.answer({'obs': seen, 'compute_kv_cache': True, 'state': action})
    return seconds


def _prompt(policy: Policy) -> str:
    """Have the encoder encode something, whatever the checkpoint knows; return an instruction that can be given."""
    text = policy.model.text
    if not isinstance(text, KnownPrompts):
        return ''
    try:
        text.encoder.encode('')
    except TextError as error:
        LOG.warning('clients can give the instructions of the checkpoint only: %s', error)
    return next(iter(text.table))
