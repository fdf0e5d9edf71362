"""Messages that several tests start from."""

import numpy as np

from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.msg import ActionChunk
from lingbot_va_ros.conversions import actions_field, to_duration

PROFILE = load_profile('aloha')


def make_chunk(**changes: object) -> ActionChunk:
    actions = np.tile(PROFILE.to_universal(PROFILE.limits('home')), (16, 1))
    fields = {
        'chunk': 7,
        'latent_frames': 1,
        'actions_per_latent': 16,
        'dt': to_duration(20_000_000),
        'mask': PROFILE.mask.tolist(),
        'actions': actions_field(actions),
        **changes,
    }
    return ActionChunk(**fields)
