"""What a training run is: one dataclass per subject, read from YAML and from `key=value` overrides."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lingbot_va_core import config

WEIGHTINGS = ('none', 'released')
UNITS = ('frame', 'chunk')
HISTORY_UNITS = ('sequence', 'chunk')
PRECISIONS = ('float32', 'bfloat16')
Settings = TypeVar('Settings')


class TrainingError(config.ConfigError):
    """Settings or data that no training follows from."""


def require(condition: bool, message: str) -> None:
    """Raise TrainingError with `message` unless `condition` holds."""
    if not condition:
        raise TrainingError(message)


def _share(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(0 <= value <= 1, f'{name} is {value}; it must be from 0 to 1')


def _at_least(settings: object, least: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        require(value >= least, f'{name} is {value}; it must be at least {least}')


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and the course of its learning rate: linear warm-up, flat, cosine.

    Attributes:
        lr: learning rate after the warm-up.
        warmup: steps in which it rises from 0.
        flat: share of all steps before the cosine begins; 0: it begins after the warm-up, 1: never.
        final: learning rate at the end, as a share of `lr`.
        weight_decay: of matrices; biases, norms and tables have none.
        clip: largest norm of all gradients together.
        ema: decay of the moving average of weights, which is what a checkpoint holds; 0: none. Early on it is
            smaller, (1 + step) / (10 + step), so that the first weights are forgotten.
        muon: the matrices of the transformer's blocks follow Muon (momentum made orthogonal; Jordan et al., 2024), at
            the same learning rate and weight decay; everything else AdamW. In one process only.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    warmup: int = 100
    flat: float = 0.0
    final: float = 0.0
    clip: float = 2.0
    ema: float = 0.99
    muon: bool = False

    def __post_init__(self) -> None:
        require(self.lr > 0 and self.clip > 0, f'lr is {self.lr} and clip {self.clip}; both must be above 0')
        _at_least(self, 0, 'warmup', 'weight_decay')
        _share(self, 'flat', 'final')
        require(
            max(*self.betas, self.ema) < 1 and min(*self.betas, self.ema) >= 0,
            f'betas is {list(self.betas)} and ema {self.ema}; all must be at least 0 and below 1',
        )


@dataclass(frozen=True)
class RunSettings:
    """The loop.

    Attributes:
        steps: optimiser steps.
        batch: clips of one forward, over all processes.
        accumulate: forwards of one step.
        seed: of everything that is drawn.
        precision: of matrix products; weights and sums are float32.
        save_every: steps between two saved states.
        log_every: steps between two rows of the log.
        evaluate_every: steps between two looks at the held-out episodes, with a picture.
        evaluate_batches: forwards of such a look.
        recompute: recompute activations in the backward pass, which saves memory.
        compile: let torch.compile fuse the operations of each block; for a GPU, and costs minutes at the start.
    """

    steps: int = 3000
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    precision: str = 'bfloat16'
    save_every: int = 500
    log_every: int = 10
    evaluate_every: int = 500
    evaluate_batches: int = 8
    recompute: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        names = ('steps', 'batch', 'accumulate', 'save_every', 'log_every', 'evaluate_every', 'evaluate_batches')
        _at_least(self, 1, *names)
        require(self.precision in PRECISIONS, f"precision is '{self.precision}'; choose one of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class ClipSettings:
    """What is cut out of the episodes.

    Attributes:
        frames: latent frames of a clip.
        smallest_chunk, largest_chunk: K is drawn from this range, for each forward.
        start_share: of the forwards, how many begin as an episode does: the first frame is given, encoded on its own,
            without actions. Such clips start anywhere, as an episode may after a recovery; the true first frames are
            as likely as any other. (With a VAE whose latents remember more than the frame before them, they start
            where an episode does.) The other clips begin within an episode.
        early_share: of the clips, how many begin within the first `early_frames` latent frames of an episode, where
            executed actions do not tell yet where the motion leads, only the cameras do. The others begin anywhere.
            Clips with nothing to learn are never drawn, so where an expert took over from a policy, the first are those
            about that moment.
        early_frames: see above.
        fdm_share: of the forwards, how many have the form of forward dynamics.
        first_chunk: also predict the first chunk of clips that begin within an episode, of which no history is known,
            as the released training does.
        window: smallest and largest distance of chunk ids that is attended to, drawn for each forward; null: no limit.
        text_dropout: share of clips without their instruction, for guidance.
        holdout: share of the episodes that are not trained on.
        min_range: least distance of the action quantiles, rad or m, so that joints that hardly move are not amplified.
        gripper_min_range: the same for the grippers' channels.
        relative_poses: make poses in the actions relative to the first one executed in the episode; the action node
            then needs `relative_poses`, too. Data sets hold poses in base frames.
    """

    frames: int = 8
    smallest_chunk: int = 1
    largest_chunk: int = 4
    start_share: float = 0.2
    early_share: float = 0.0
    early_frames: int = 2
    fdm_share: float = 0.2
    first_chunk: bool = False
    window: tuple[int, int] | None = None
    text_dropout: float = 0.1
    holdout: float = 0.05
    min_range: float = 0.1
    gripper_min_range: float = 0.005
    relative_poses: bool = False

    def __post_init__(self) -> None:
        _at_least(self, 2, 'frames')
        _at_least(self, 1, 'smallest_chunk', 'early_frames')
        _at_least(self, 0, 'min_range', 'gripper_min_range')
        require(
            self.smallest_chunk <= self.largest_chunk < self.frames,
            f'chunks are {self.smallest_chunk} to {self.largest_chunk} frames of {self.frames}; the smallest must not '
            'be above the largest, and the largest below frames',
        )
        if self.window is not None:
            require(
                1 <= self.window[0] <= self.window[1], f'window is {list(self.window)}; give a range, from 1 upwards'
            )
        _share(self, 'start_share', 'early_share', 'fdm_share', 'text_dropout', 'holdout')


@dataclass(frozen=True)
class ObjectiveSettings:
    """Flow matching of video and actions.

    Attributes:
        action_weight: lambda of L = L_dyn + lambda L_inv.
        video_weight: of L_dyn.
        timestep_weighting: 'none', or 'released': exp(-2 ((t - 500) / 1000)^2) less its minimum, of mean 1.
        noise_unit: every 'frame' has a noise level of its own, or every 'chunk', as at inference.
        high_noise_share: of the video's levels, how many are drawn again from sigma in `high_noise`, evenly: those
            that a video denoised half-way passes through.
        high_noise: range of sigma.
        history_share: how often the video history is noisy.
        history_s: range of its s, 1 - u of the unshifted schedule; 1 is clean.
        history_unit: whether the whole 'sequence' has one such level, or every 'chunk' its own.
        executed_drift: up to how far, in half ranges of the quantiles, the action history wanders off the true one. A
            reach that has begun tells where it leads, at least to the one who made it; a policy that reads that from
            its own actions never looks again. 0: off.
        freeze_video: train the action stream alone; needs an action expert.
    """

    action_weight: float = 1.0
    video_weight: float = 1.0
    timestep_weighting: str = 'none'
    noise_unit: str = 'frame'
    high_noise_share: float = 0.0
    high_noise: tuple[float, float] = (0.5, 1.0)
    history_share: float = 0.5
    history_s: tuple[float, float] = (0.5, 1.0)
    history_unit: str = 'sequence'
    executed_drift: float = 0.0
    freeze_video: bool = False

    def __post_init__(self) -> None:
        _share(self, 'high_noise_share', 'history_share')
        _at_least(self, 0, 'action_weight', 'video_weight', 'executed_drift')
        for name in ('high_noise', 'history_s'):
            low, high = getattr(self, name)
            require(0 <= low <= high <= 1, f'{name} is [{low}, {high}]; it must be a range within 0 to 1')
        for name, choices in (
            ('timestep_weighting', WEIGHTINGS),
            ('noise_unit', UNITS),
            ('history_unit', HISTORY_UNITS),
        ):
            value = getattr(self, name)
            require(value in choices, f"{name} is '{value}'; choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters in place of full training.

    Attributes:
        rank: 0: off.
        alpha: the adapter's product is scaled by alpha / rank.
    """

    rank: int = 0
    alpha: float = 16.0

    def __post_init__(self) -> None:
        _at_least(self, 0, 'rank')


@dataclass(frozen=True)
class RolloutSettings:
    """How the trained model is to be run, where it differs from what it was; see `config.RolloutConfig`."""

    chunk_frames: int | None = None
    attn_window: int | None = None
    video_steps: int | None = None
    action_steps: int | None = None
    video_shift: float | None = None
    action_shift: float | None = None
    video_guidance: float | None = None
    video_exec_step: int | None = None
    video_s: float | None = None
    fdm_steps: int | None = None
    fdm_s: float | None = None

    def apply(self, rollout: config.RolloutConfig) -> config.RolloutConfig:
        """Return `rollout` with these changes; raises ConfigError where they contradict the rest."""
        changes = {name: value for name, value in asdict(self).items() if value is not None}
        if 'video_s' in changes or 'video_exec_step' in changes:
            changes = {'video_s': None, 'video_exec_step': None, **changes}  # one replaces the other
        return replace(rollout, **changes)


@dataclass(frozen=True)
class PolicySettings:
    """`lingbot-va train policy`."""

    run: RunSettings = field(default_factory=RunSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    rollout: RolloutSettings = field(default_factory=RolloutSettings)


@dataclass(frozen=True)
class VAELossSettings:
    """What a VAE is trained to do.

    Attributes:
        frames: video frames of a clip, 1 + 4 n.
        l1, l2: weights of the absolute and of the squared difference of pixels, -1..1.
        moving: weight of a pixel that differs from the camera's mean image by more than `threshold`, against 1.
        kl: weight of the divergence from a standard normal distribution, per latent number.
        holdout: share of the episodes that are not trained on.
    """

    frames: int = 9
    l1: float = 1.0
    l2: float = 1.0
    moving: float = 5.0
    threshold: float = 0.15
    kl: float = 5e-4
    holdout: float = 0.05

    def __post_init__(self) -> None:
        require(self.frames > 1 and self.frames % 4 == 1, f'frames is {self.frames}; it must be 5, 9, 13, ...')
        _at_least(self, 0, 'l1', 'l2', 'moving', 'threshold', 'kl')
        _share(self, 'holdout')


@dataclass(frozen=True)
class VAESettings:
    """`lingbot-va train vae`."""

    run: RunSettings = field(default_factory=lambda: RunSettings(steps=1500, batch=8))
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(lr=2e-3, ema=0.99, weight_decay=0.0))
    loss: VAELossSettings = field(default_factory=VAELossSettings)


def read_settings(kind: type[Settings], document: object, overrides: Sequence[str] = (), where: str = '') -> Settings:
    """Read settings; what is not mentioned keeps its default.

    Args:
        kind: `PolicySettings` or `VAESettings`.
        document: mapping of the sections that differ, as YAML gives it.
        overrides: `section.name=value`, the value in YAML.
        where: named in errors.

    Raises:
        TrainingError: names the field, the value and what is allowed.
    """
    merged = _merged(asdict(kind()), document, where)
    for override in overrides:
        path, equals, text = override.partition('=')
        require(bool(equals), f"'{override}' sets nothing; write section.name=value, such as optimizer.lr=1e-4")
        value: Any = yaml.safe_load(text)
        for name in reversed(path.split('.')):
            value = {name: value}
        merged = _merged(merged, value, '--set')
    try:
        return config._read(kind, merged, where or kind.__name__)
    except config.ConfigError as error:
        raise TrainingError(str(error)) from error


def read_section(path: Path, section: str) -> Any:
    """Return one section of a YAML file, empty if it is not there; raises TrainingError."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(f'{path} cannot be read: {error}') from error
    require(isinstance(document, Mapping), f'{path} must be a mapping with the sections vae and policy')
    return document.get(section) or {}


def _merged(base: Mapping[str, Any], changes: object, where: str) -> dict[str, Any]:
    require(isinstance(changes, Mapping), f'{where}: {changes!r:.80} must be a mapping')
    unknown = [str(name) for name in changes if name not in base]
    require(not unknown, f'{where}: unknown {", ".join(unknown)}; choose from {", ".join(base)}')
    result = dict(base)
    for name, value in changes.items():
        nested = isinstance(base[name], Mapping)
        result[name] = _merged(base[name], value, f'{where}.{name}'.lstrip('.')) if nested else _number(value)
    return result


def _number(value: object) -> object:
    """YAML reads 1e-3, without a dot, as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
