"""The objective: flow matching of the video and of the actions, with a noisy history."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.flow_matching import TIMESTEP_SCALE, shifted
from lingbot_va_core.sequence import Stream, velocities
from lingbot_va_core.training.clips import Clip, Plan
from lingbot_va_core.training.settings import ObjectiveSettings, TrainingError
from lingbot_va_core.transformer import WorldTransformer

ACTION_PARTS = (
    'action_blocks.',
    'action_scale_shift_table',
    'condition_embedder_action.',
    'action_embedder.',
    'action_proj_out.',
)
GRID = 1000  # noise levels, u = 1/1000 ... 1


@dataclass(frozen=True)
class Example:
    """The clips of one forward, noised.

    Attributes:
        plan: what they have in common.
        video, action: what goes in.
        video_target, action_target: velocities, noise - data, of the shapes of `noisy`.
        used: channels of each clip, float [B, 30].
        text: embeddings [B, length, dim].
        mistaken: frames of each clip that are history but nothing to learn, bool [B, F].
    """

    plan: Plan
    video: Stream
    action: Stream
    video_target: Tensor
    action_target: Tensor
    used: Tensor
    text: Tensor
    mistaken: Tensor

    def to(self, device: torch.device) -> 'Example':
        """Move all tensors."""

        def moved(stream: Stream) -> Stream:
            return replace(
                stream, **{name: value.to(device) for name, value in vars(stream).items() if torch.is_tensor(value)}
            )

        tensors = (self.video_target, self.action_target, self.used, self.text, self.mistaken)
        return Example(self.plan, moved(self.video), moved(self.action), *(t.to(device) for t in tensors))


def noised(plan: Plan, clips: Sequence[Clip], settings: ObjectiveSettings, rollout: RolloutConfig) -> Example:
    """Add the noise that each clip's seed says."""
    parts = [_noised_clip(plan, clip, settings, rollout) for clip in clips]
    video, action, video_target, action_target = zip(*parts, strict=True)
    return Example(
        plan,
        _stack(video),
        _stack(action),
        torch.stack(video_target),
        torch.stack(action_target),
        torch.stack([clip.used for clip in clips]).float(),
        torch.stack([clip.text for clip in clips]),
        torch.stack([clip.mistaken for clip in clips]),
    )


class Objective(nn.Module):
    """The transformer with its losses, as one module that can be sharded."""

    def __init__(self, transformer: WorldTransformer, settings: ObjectiveSettings, recompute: bool = False) -> None:
        super().__init__()
        self.transformer, self._settings, self._recompute = transformer, settings, recompute
        if settings.freeze_video and transformer.config.action is None:
            raise TrainingError('objective.freeze_video needs an action expert, but both streams share their weights')
        transformer.requires_grad_(True)
        if settings.freeze_video:
            for name, parameter in transformer.named_parameters():
                parameter.requires_grad_(name.startswith(ACTION_PARTS))

    def forward(self, example: Example) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what is to be minimised, and its terms: 'video' and 'action', or 'fdm'; all means over the clips."""
        plan, settings = example.plan, self._settings
        text = self.transformer.text_context(example.text)
        video, action = velocities(
            self.transformer,
            example.video,
            example.action,
            text,
            plan.chunks,
            window=plan.window,
            recompute=self._recompute,
            forward_dynamics=plan.fdm,
        )
        predicted = torch.tensor(plan.predicted, device=video.device)
        # Forward dynamics has the executed actions before it, so mistakes teach it as much as anything. Elsewhere they
        # leave the sum, not the divisor: the other frames of such a clip count no more than those of another clip.
        learned = predicted if plan.fdm else predicted & ~example.mistaken
        weights = [
            learned * timestep_weights(stream.timesteps, settings.timestep_weighting) / predicted.sum()
            for stream in (example.video, example.action)
        ]
        error = (video.float() - example.video_target).square().mean(dim=(1, 3, 4))  # [B, F]
        dynamics = (error * weights[0]).sum(dim=1).mean()
        if plan.fdm:
            return dynamics, {'fdm': dynamics.detach()}
        channels = example.used[:, None, None]
        error = ((action.float() - example.action_target).square() * channels).sum(dim=(2, 3))
        error = error / (example.used.sum(dim=1, keepdim=True).clamp_min(1) * action.shape[2])
        inverse = (error * weights[1]).sum(dim=1).mean()
        total = settings.video_weight * dynamics + settings.action_weight * inverse
        return total, {'video': dynamics.detach(), 'action': inverse.detach()}


def timestep_weights(timesteps: Tensor, kind: str) -> Tensor:
    """Return the loss weights of timesteps 0..1000, of mean 1 over all of them."""
    if kind == 'none':
        return torch.ones_like(timesteps)
    grid = torch.arange(1, GRID + 1, device=timesteps.device) * (TIMESTEP_SCALE / GRID)
    bell, all_of_them = (torch.exp(-2.0 * ((t - 500.0) / 1000.0) ** 2) for t in (timesteps, grid))
    return (bell - all_of_them.min()) / (all_of_them - all_of_them.min()).mean()


def _noised_clip(
    plan: Plan, clip: Clip, settings: ObjectiveSettings, rollout: RolloutConfig
) -> tuple[Stream, Stream, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(clip.seed)
    draw = _Draw(torch.tensor(plan.chunks), generator)
    predicted = torch.tensor(plan.predicted).float()
    video, label = clip.latents.transpose(0, 1), clip.labels * clip.used
    executed = clip.executed * clip.used
    video_noise, action_noise, history_noise = draw.normal(video), draw.normal(label) * clip.used, draw.normal(video)

    sigma = shifted(draw.grid(settings.noise_unit), rollout.video_shift)
    again = draw.uniform(settings.noise_unit) < settings.high_noise_share
    low, high = settings.high_noise
    sigma = predicted * torch.where(again, low + (high - low) * draw.uniform(settings.noise_unit), sigma)
    history = _history_sigma(draw, settings, rollout)
    if plan.given:
        history[0] = 0.0
    video_stream = Stream(
        _mix(video, video_noise, sigma[:, None, None]),
        _mix(video, history_noise, history[:, None, None]),
        sigma * TIMESTEP_SCALE,
        history * TIMESTEP_SCALE,
    )
    sigma = predicted * shifted(draw.grid(settings.noise_unit), rollout.action_shift)
    if plan.fdm:
        action_stream = Stream(executed, executed, torch.zeros_like(sigma))
    else:
        drift = settings.executed_drift * draw.drift(executed) * clip.used
        if plan.given:
            drift[0] = 0.0  # nothing was executed before the first frame
        noisy = _mix(label, action_noise, sigma[:, None, None])
        action_stream = Stream(noisy, executed + drift, sigma * TIMESTEP_SCALE)
    return video_stream, action_stream, video_noise - video, action_noise - label


class _Draw:
    """Random numbers of one clip, always in the same order."""

    def __init__(self, chunks: Tensor, generator: torch.Generator) -> None:
        self._chunks, self._generator = chunks, generator

    def normal(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape).normal_(generator=self._generator)

    def drift(self, like: Tensor) -> Tensor:
        """Straight lines between normal numbers at the frames' borders, by one number of 0..1; for [F, A, channels]."""
        frames, actions, channels = like.shape
        border = torch.randn(frames + 1, 1, channels, generator=self._generator)
        within = torch.arange(1, actions + 1)[:, None] / actions
        return torch.lerp(border[:-1], border[1:], within) * torch.rand((), generator=self._generator)

    def uniform(self, unit: str) -> Tensor:
        """One number of 0..1 per frame, equal within each unit, [F]."""
        frames = int(self._chunks.sum())
        count = {'frame': frames, 'chunk': len(self._chunks), 'sequence': 1}[unit]
        numbers = torch.rand(count, generator=self._generator)
        return numbers.repeat_interleave(self._chunks) if unit == 'chunk' else numbers.expand(frames)

    def grid(self, unit: str) -> Tensor:
        """Points u of the unshifted grid."""
        return (self.uniform(unit) * GRID).floor().add(1.0) / GRID


def _history_sigma(draw: _Draw, settings: ObjectiveSettings, rollout: RolloutConfig) -> Tensor:
    noisy = draw.uniform(settings.history_unit) < settings.history_share
    low, high = settings.history_s
    s = low + (high - low) * draw.uniform(settings.history_unit)
    return shifted(1.0 - s, rollout.video_shift) * noisy


def _mix(data: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    return (1.0 - sigma) * data + sigma * noise


def _stack(streams: Sequence[Stream]) -> Stream:
    """Make a batch."""
    fields = zip(*((s.noisy, s.clean, s.timesteps, s.clean_timesteps) for s in streams), strict=True)
    return Stream(*(None if parts[0] is None else torch.stack(parts) for parts in fields))
