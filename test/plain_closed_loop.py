"""The closed loop without regard to cost: every chunk from scratch, every past token in a list, all rows computed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lingbot_va_core.cache import Write
from lingbot_va_core.config import ExpertConfig, ModelConfig, RolloutConfig, VAEConfig
from lingbot_va_core.flow_matching import schedule
from lingbot_va_core.initialization import initialize_transformer
from lingbot_va_core.text import HashedTextEncoder
from lingbot_va_core.transformer import WorldTransformer
from lingbot_va_core.world_model import WorldModel

LATENT = (6, 2, 2)
ACTIONS = 3  # per latent frame
ACTION_DIM = 30


def small_model(like: WorldModel) -> WorldModel:
    """A model of a few tokens per frame and without weights so small that a mistake would not show."""
    config = ModelConfig(
        name='small',
        transformer=replace(
            like.config.transformer,
            num_layers=2,
            num_heads=2,
            head_dim=12,
            video=ExpertConfig(24, 32),
            action=ExpertConfig(16, 24),
            latent_channels=LATENT[0],
            text_dim=8,
            freq_dim=16,
        ),
        vae=VAEConfig('tiny', LATENT[0], (8, 8, 8)),
        rollout=RolloutConfig(
            height=32,
            width=32,
            camera_layout='width',
            cameras=1,
            chunk_frames=2,
            actions_per_latent=ACTIONS,
            video_steps=4,
            action_steps=2,
            attn_window=8,
            video_exec_step=3,
        ),
    )
    transformer = WorldTransformer(config.transformer)
    initialize_transformer(transformer, torch.Generator().manual_seed(1))
    for parameter in transformer.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    text = HashedTextEncoder(8, 4)
    return replace(like, config=config, transformer=transformer.requires_grad_(False), text=text)


def configured(model: WorldModel, **changes: object) -> WorldModel:
    """Return the model with other rollout settings."""
    return replace(model, config=replace(model.config, rollout=replace(model.config.rollout, **changes)))


def latent(index: int) -> Tensor:
    """A real latent frame of the small model."""
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(100 + index))


@dataclass(frozen=True)
class Token:
    """Keys and values of all layers, [B, heads, head_dim] each, of one token."""

    stream: str
    frame: int
    kind: Write
    layers: list[tuple[Tensor, Tensor]]


class ListCache:
    """Single tokens, oldest first."""

    def __init__(self, slots: int, eviction: str) -> None:
        self.slots, self.eviction = slots, eviction
        self.tokens: list[Token] = []

    @contextmanager
    def write(
        self, stream: str, first: int, frames: int, tokens: int, kind: Write, _rows: int
    ) -> Iterator['ListCache']:
        """As the cache: evict, attend, keep."""
        self.trim(self.slots - frames * tokens)
        self.fresh = [Token(stream, first + i // tokens, kind, []) for i in range(frames * tokens)]
        yield self
        if kind is not Write.TRANSIENT:
            self.tokens += self.fresh

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add the fresh tokens' keys and values of a layer; return all."""
        for i, token in enumerate(self.fresh):
            token.layers.append((key[:, i], value[:, i]))
        seen = [token.layers[layer] for token in self.tokens + self.fresh]
        keys, values = (torch.stack(parts, dim=2) for parts in zip(*seen, strict=True))
        return keys, values

    def trim(self, count: int) -> None:
        """Drop the oldest until `count` are left, in whole latent frames where the eviction says so."""
        while len(self.tokens) > count:
            oldest = self.tokens.pop(0)
            if self.eviction == 'frames':
                self.tokens = [token for token in self.tokens if token.frame != oldest.frame]

    def drop_predicted(self) -> None:
        """Drop what was predicted."""
        self.tokens = [token for token in self.tokens if token.kind is not Write.PREDICTED]


@dataclass(frozen=True)
class Group:
    """Frames that enter the context together: latents [C, F, h, w], actions [F, n, 30] normalised."""

    first: int
    latents: Tensor
    actions: Tensor


class FromScratch:
    """One chunk from the tokens of its context alone."""

    def __init__(self, model: WorldModel, mode: str, instruction: str) -> None:
        self.model, self.mode, self.rollout, self.net = model, mode, model.config.rollout, model.transformer
        rollout = self.rollout
        self.rows = 2 if max(rollout.video_guidance, rollout.action_guidance) > 1 else 1
        texts = [model.text.encode(text) for text in (instruction, '')]
        self.text = self.net.text_context(torch.stack(texts[: self.rows]))
        self.video_plan = schedule(rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s)
        self.kept = self.video_plan.sigmas[-2 if self.video_plan.partial else -1]
        steps = rollout.fdm_steps or rollout.video_steps
        grid = [1 - i / steps for i in range(steps + 1)]
        grid = [rollout.video_shift * u / (1 + (rollout.video_shift - 1) * u) for u in grid]
        u = None if rollout.fdm_s is None else 1 - rollout.fdm_s
        self.grounded = self.kept if u is None else rollout.video_shift * u / (1 + (rollout.video_shift - 1) * u)
        self.dynamics_sigmas = [sigma for sigma in grid if sigma > self.grounded + 1e-9] + [self.grounded]
        self.chunk_tokens = rollout.chunk_frames * (model.config.video_tokens + rollout.actions_per_latent)
        self.slots = (rollout.attn_window // 2) * self.chunk_tokens

    def chunk(
        self,
        past: Sequence[Group],
        stand_in: Group | None,
        first: int,
        noise: tuple[Tensor, Tensor, Tensor],
        given: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict; `stand_in.latents` are imagined ones for naive and noise for forward dynamics.

        Returns:
            Video as it was kept and as it ended, normalised actions.
        """
        synchronous = self.mode == 'sync'
        eviction = self.rollout.cache_eviction if synchronous else 'frames'
        self.cache = ListCache(self.slots + (0 if synchronous else self.chunk_tokens), eviction)
        for i, group in enumerate(past):
            self.write(group, Write.CLEAN, 0.0)
            if eviction == 'frames' or i + 1 < len(past):  # as released, the chunk that followed has evicted
                self.cache.trim(self.slots - self.chunk_tokens)
        if stand_in is not None:
            if self.mode == 'fdm':
                stand_in = replace(stand_in, latents=self.dynamics(stand_in))
            self.write(stand_in, Write.PREDICTED, self.grounded if self.mode == 'fdm' else self.kept)
        kept, video = self.denoise('video', noise[0], first, given)
        still = None if given is None else torch.zeros(self.rollout.actions_per_latent, ACTION_DIM)
        return kept, video, self.denoise('action', noise[1], first, still)[1]

    def write(self, group: Group, kind: Write, sigma: float) -> None:
        self.forward('video', group.latents, sigma, group.first, kind)
        self.forward('action', group.actions, 0.0, group.first, kind)

    def dynamics(self, group: Group) -> Tensor:
        self.forward('action', group.actions, 0.0, group.first, Write.PREDICTED)
        x = group.latents
        for sigma, following in zip(self.dynamics_sigmas, self.dynamics_sigmas[1:], strict=False):
            output = self.forward('video', x, sigma, group.first, Write.TRANSIENT)
            x = x + self.guide(output, self.rollout.video_guidance) * (following - sigma)
        self.cache.drop_predicted()
        return x

    def denoise(self, stream: str, x: Tensor, first: int, start: Tensor | None) -> tuple[Tensor, Tensor]:
        video, kept = stream == 'video', None
        plan = self.video_plan if video else schedule(self.rollout.action_steps, self.rollout.action_shift)
        scale = self.rollout.video_guidance if video else self.rollout.action_guidance

        def clamp(x: Tensor) -> Tensor:
            x = x.clone()
            if not video:
                x[..., ~self.model.normalizer.used()] = 0
            if start is not None:
                x.narrow(1 if video else 0, 0, 1).copy_(start.unsqueeze(1 if video else 0))
            return x

        for i, sigma in enumerate(plan.sigmas[:-1]):
            x = clamp(x)
            last = plan.partial and i == len(plan.sigmas) - 2
            kind = Write.PREDICTED if last else Write.TRANSIENT
            kept = x if last else kept
            x = x + self.guide(self.forward(stream, x, sigma, first, kind, start), scale) * (plan.sigmas[i + 1] - sigma)
        x = clamp(x)
        if video and not plan.partial:
            self.forward(stream, x, 0.0, first, Write.PREDICTED)
        return (x if kept is None else kept), x

    def forward(
        self, stream: str, x: Tensor, sigma: float, first: int, kind: Write, given: Tensor | None = None
    ) -> Tensor:
        timesteps = torch.full((x.shape[1 if stream == 'video' else 0],), 1000 * sigma)
        if given is not None:
            timesteps[0] = 0
        timing = getattr(self.net, f'{stream}_timing')(timesteps)
        return getattr(self.net, stream)(x.expand(self.rows, *x.shape), timing, first, self.text, self.cache, kind)

    def guide(self, velocity: Tensor, scale: float) -> Tensor:
        if self.rows == 1:
            return velocity[0]
        return velocity[1] + scale * (velocity[0] - velocity[1])
