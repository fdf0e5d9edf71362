"""Named configurations: of models (the tiny one, the published sizes, any size between), and how released ones run."""

import re
from dataclasses import dataclass, replace

from lingbot_va_core.config import (
    ConfigError,
    ExpertConfig,
    ModelConfig,
    RolloutConfig,
    TextConfig,
    TransformerConfig,
    VAEConfig,
    WanVAEConfig,
)

HEAD_DIM = 128
BETWEEN = re.compile(r'lingbot-va-(shared|mot)-(\d+)x(\d+)')  # layers x width

# Wan2.2-TI2V-5B: its video VAE, with the mean and deviation of each latent channel.
WAN_VAE = WanVAEConfig(
    kind='wan',
    base_dim=160,
    decoder_base_dim=256,
    latent_channels=48,
    dim_mult=(1, 2, 4, 4),
    num_res_blocks=2,
    temporal_downsample=(False, True, True),
    patch_size=2,
    latents_mean=(
        -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
        0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
        -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
        -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
    ),
    latents_std=(
        0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
        0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
        0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
        0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
    ),
)  # fmt: skip

# Three cameras, the head in full and the wrists at half size, as the released RoboTwin model is run.
ROBOTWIN = RolloutConfig(
    height=256,
    width=320,
    camera_layout='tshape',
    cameras=3,
    chunk_frames=2,
    actions_per_latent=16,
    video_steps=25,
    action_steps=50,
    attn_window=72,
    video_guidance=5.0,
)

# Three equal views. The paper's real robots denoise the video to unshifted s = 0.6 in three steps (the fourth forward
# writes the cache) and the actions in ten; the window, which it does not state, is that of the released robots.
REAL_ROBOT = RolloutConfig(
    height=256,
    width=256,
    camera_layout='width',
    cameras=3,
    chunk_frames=4,
    actions_per_latent=16,
    video_steps=5,
    action_steps=10,
    attn_window=30,
    video_guidance=5.0,
    video_exec_step=4,
)


@dataclass(frozen=True)
class RolloutPreset:
    """What a released checkpoint's folder leaves out, for the robot or benchmark that it was trained for.

    Attributes:
        cameras: LeRobot's names of the images, in the order of the canvas.
        channels: of the universal action, in the order of the data's action vectors.
    """

    rollout: RolloutConfig
    cameras: tuple[str, ...]
    channels: tuple[int, ...]


_HEAD_AND_WRISTS = tuple(f'observation.images.{name}' for name in ('cam_high', 'cam_left_wrist', 'cam_right_wrist'))
_TWO_POSES = (*range(7), 28, *range(7, 14), 29)

ROLLOUTS = {
    'robotwin': RolloutPreset(replace(ROBOTWIN, relative_poses=True), _HEAD_AND_WRISTS, _TWO_POSES),
    'franka': RolloutPreset(
        RolloutConfig(
            height=224,
            width=320,
            camera_layout='width',
            cameras=3,
            chunk_frames=4,
            actions_per_latent=20,
            video_steps=5,
            action_steps=10,
            attn_window=30,
            video_guidance=5.0,
        ),
        _HEAD_AND_WRISTS,
        _TWO_POSES,
    ),
    # SO-101: one arm, whose five joints are in the first channels.
    'demo': RolloutPreset(
        RolloutConfig(
            height=256,
            width=256,
            camera_layout='width',
            cameras=2,
            chunk_frames=4,
            actions_per_latent=8,
            video_steps=5,
            action_steps=10,
            attn_window=30,
            video_guidance=5.0,
        ),
        ('observation.images.top', 'observation.images.wrist'),
        (*range(5), 28),
    ),
    # One arm: steps of position and rotation vector in the first channels.
    'libero': RolloutPreset(
        RolloutConfig(
            height=128,
            width=128,
            camera_layout='width',
            cameras=2,
            chunk_frames=4,
            actions_per_latent=4,
            video_steps=20,
            action_steps=50,
            attn_window=30,
            video_guidance=5.0,
            action_shift=0.05,
        ),
        ('observation.images.agentview_rgb', 'observation.images.eye_in_hand_rgb'),
        (*range(6), 28),
    ),
}

# Small enough to train and to run on one CPU core: 36 + 16 tokens per latent frame, three video forwards that end
# half-way to clean (unshifted s = 0.5), four for the actions.
TINY = ModelConfig(
    name='tiny',
    transformer=TransformerConfig(
        num_layers=6,
        num_heads=3,
        head_dim=64,
        video=ExpertConfig(width=192, ffn_width=384),
        action=ExpertConfig(width=96, ffn_width=256),
        latent_channels=24,
        patch_size=(1, 1, 1),
        text_dim=384,
        freq_dim=128,
    ),
    vae=VAEConfig(kind='tiny', latent_channels=24, widths=(96, 128, 160)),
    rollout=RolloutConfig(
        height=64,
        width=96,
        camera_layout='tshape',
        cameras=3,
        chunk_frames=2,
        actions_per_latent=16,
        video_steps=4,
        action_steps=4,
        attn_window=6,
        video_shift=1.0,
        video_exec_step=3,
        cache_eviction='frames',
        fdm_steps=2,
        fdm_s=1.0,
    ),
    text=TextConfig(kind='minilm', length=32),
)


def _wan(name: str, layers: int, width: int, mot: bool) -> ModelConfig:
    """Wan2.2 with `width`, a multiple of 128; the action stream of Mixture-of-Transformers has a quarter of it."""

    def expert(width: int) -> ExpertConfig:
        return ExpertConfig(width, width * 14 // 3 // 4 * 4)  # 3072: 14336

    return ModelConfig(
        name=name,
        transformer=TransformerConfig(
            num_layers=layers,
            num_heads=width // HEAD_DIM,
            head_dim=HEAD_DIM,
            video=expert(width),
            action=expert(width // 4) if mot else None,
            latent_channels=48,
            patch_size=(1, 2, 2),
            text_dim=4096,
            freq_dim=256,
        ),
        vae=WAN_VAE,
        rollout=REAL_ROBOT if mot else ROBOTWIN,
        text=TextConfig(kind='umt5', length=512),
    )


PRESETS = {
    'tiny': TINY,
    'tiny-shared': replace(TINY, name='tiny-shared', transformer=replace(TINY.transformer, action=None)),
    'lingbot-va-shared-5b': _wan('lingbot-va-shared-5b', 30, 3072, mot=False),
    'lingbot-va-mot-5b': _wan('lingbot-va-mot-5b', 30, 3072, mot=True),
}


def preset(name: str) -> ModelConfig:
    """Return a named configuration.

    `lingbot-va-shared-12x1024` and `lingbot-va-mot-12x1024` name sizes between: 12 layers, width 1024 (a multiple of
    128), all else in proportion.

    Raises:
        ConfigError: the name is unknown or the width no multiple of 128.
    """
    if name in PRESETS:
        return PRESETS[name]
    match = BETWEEN.fullmatch(name)
    if not match:
        raise ConfigError(
            f"preset '{name}' is unknown; choose one of {', '.join(sorted(PRESETS))}, or a size between such as "
            'lingbot-va-mot-12x1024'
        )
    layers, width = int(match[2]), int(match[3])
    if not 1 <= layers <= 256 or width % HEAD_DIM or not HEAD_DIM <= width <= 16384:
        raise ConfigError(
            f"preset '{name}' has {layers} layers of width {width}; give 1 to 256 layers and a multiple of {HEAD_DIM} "
            'from 128 to 16384'
        )
    return _wan(name, layers, width, mot=match[1] == 'mot')


def rollout_preset(name: str) -> RolloutPreset:
    """Return how the released configuration `name` is run; raises ConfigError for an unknown one."""
    if name not in ROLLOUTS:
        raise ConfigError(f"rollout '{name}' is unknown; choose one of {', '.join(ROLLOUTS)}")
    return ROLLOUTS[name]
