"""The world model's transformer: video and action streams that meet in one joint self-attention per layer.

Names of weights and order of operations are those of the released checkpoints, in which both streams run through the
same `blocks`. With an action expert (Mixture-of-Transformers) the action stream has `action_blocks` of its own: its
queries, keys and values are projected up to the video stream's heads and the result is projected back down.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lingbot_va_core.attention import Attention, attend
from lingbot_va_core.cache import KVCache, Slots, Write
from lingbot_va_core.config import TransformerConfig
from lingbot_va_core.rope import action_phases, rotate, video_phases

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Timing:
    """What the timesteps of a forward's frames mean for each layer and for the head; see `Block.modulation`."""

    layers: list[list[Tensor]]
    head: list[Tensor]


@dataclass(frozen=True)
class TextContext:
    """Keys and values of the instruction for the cross-attention of each layer, [B, heads, L, head_dim]."""

    video: list[KeyValue]
    action: list[KeyValue]

    def rows(self, count: int) -> 'TextContext':
        """Return views of the first `count` rows of the batch."""
        video, action = (
            [(key[:count], value[:count]) for key, value in layers] for layers in (self.video, self.action)
        )
        return TextContext(video, action)


class Block(nn.Module):
    """One layer of one expert, in two halves with the joint attention between them.

    Its input x is [B, F, N, width]. Modulation is in float32 and per frame, not per token: [F, 1, width] for the whole
    batch or [B, F, 1, width].
    """

    def __init__(self, width: int, inner: int, heads: int, ffn_width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.attn1 = Attention(width, inner, heads, eps)
        self.attn2 = Attention(width, width, heads, eps)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.ffn = FeedForward(width, ffn_width)
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 6, width))

    def modulation(self, time: Tensor) -> list[Tensor]:
        """Shift, 1 + scale and gate of the self-attention, then of the feed-forward layer, each [..., F, 1, width]."""
        return modulation_vectors(self.scale_shift_table, time, scales=(1, 4))

    def project(self, x: Tensor, modulation: list[Tensor], phases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values, of the self-attention: [B, F N, heads, head_dim]."""
        shift, scale = modulation[:2]
        y = modulate(x, shift, scale, self.eps).flatten(1, 2)
        key, value = self.attn1.key_value(y)
        return rotate(self.attn1.query(y), phases), rotate(key, phases), value

    def update(self, x: Tensor, modulation: list[Tensor], attended: Tensor, text: KeyValue) -> Tensor:
        """Add the attended heads [B, F N, heads, head_dim], the cross-attention and the feed-forward layer to x."""
        gate1, shift2, scale2, gate2 = modulation[2:]
        x = add_gated(x, self.attn1.output(attended).view_as(x), gate1)
        y = normalize(x, self.eps, self.norm2).flatten(1, 2)
        x = x + self.attn2.output(attend(self.attn2.query(y), *text)).view_as(x)
        return add_gated(x, self.ffn(modulate(x, shift2, scale2, self.eps)), gate2)


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        up = nn.Module()
        up.proj = nn.Linear(width, inner)
        self.net = nn.ModuleList([up, nn.Identity(), nn.Linear(inner, width)])

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to the same shape."""
        return self.net[2](F.gelu(self.net[0].proj(x), approximate='tanh'))


class Mlp(nn.Module):
    """Two linear layers; the caller names the activation between them."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)


class ConditionEmbedder(nn.Module):
    """Embeds the timestep and the text for one stream."""

    def __init__(self, width: int, freq_dim: int, text_dim: int) -> None:
        super().__init__()
        half = freq_dim // 2
        self.time_embedder = Mlp(freq_dim, width)
        self.time_proj = nn.Linear(width, 6 * width)
        self.text_embedder = Mlp(text_dim, width)
        self._log_period = -math.log(10000.0) / half
        self._half = half

    def time(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Map timesteps [..., F] in 0..1000 to float32 embedding [..., F, width], modulation [..., F, 6, width]."""
        index = torch.arange(self._half, device=timesteps.device, dtype=torch.float32)
        angle = timesteps.float()[..., None] * torch.exp(index * self._log_period)
        features = torch.cat([angle.cos(), angle.sin()], dim=-1).to(self.time_proj.weight.dtype)
        mlp = self.time_embedder
        embedding = mlp.linear_2(F.silu(mlp.linear_1(features)))
        modulation = self.time_proj(F.silu(embedding)).unflatten(-1, (6, -1))
        return embedding.float(), modulation.float()

    def text(self, embeddings: Tensor) -> Tensor:
        """Map text embeddings [B, L, text_dim] to [B, L, width]."""
        mlp = self.text_embedder
        return mlp.linear_2(F.gelu(mlp.linear_1(embeddings), approximate='tanh'))


class WorldTransformer(nn.Module):
    """Predicts flow-matching velocities of latent frames and of actions, given what is in the cache."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, inner, heads, eps = config.video.width, config.video.width, config.num_heads, config.eps
        layers = range(config.num_layers)
        self.blocks = nn.ModuleList([Block(width, inner, heads, config.video.ffn_width, eps) for _ in layers])
        self.scale_shift_table = nn.Parameter(torch.zeros(1, 2, width))
        action_width = width
        if config.action is not None:
            action_width = config.action.width
            self.action_blocks = nn.ModuleList(
                [Block(action_width, inner, heads, config.action.ffn_width, eps) for _ in layers]
            )
            self.action_scale_shift_table = nn.Parameter(torch.zeros(1, 2, action_width))
        self.patch_embedding_mlp = nn.Linear(config.patch_channels, width)
        self.action_embedder = nn.Linear(config.action_dim, action_width)
        self.condition_embedder = ConditionEmbedder(width, config.freq_dim, config.text_dim)
        self.condition_embedder_action = ConditionEmbedder(action_width, config.freq_dim, config.text_dim)
        self.proj_out = nn.Linear(width, config.patch_channels)
        self.action_proj_out = nn.Linear(action_width, config.action_dim)

    def text_context(self, embeddings: Tensor) -> TextContext:
        """Compute what every forward needs of the text embeddings [B, L, text_dim], once per instruction."""
        embeddings = embeddings.to(self.proj_out.weight.dtype)
        video = self._text_layers(self.blocks, self.condition_embedder.text(embeddings))
        if self.config.action is None:
            return TextContext(video, video)
        return TextContext(
            video, self._text_layers(self.action_blocks, self.condition_embedder_action.text(embeddings))
        )

    def video_timing(self, timesteps: Tensor) -> Timing:
        """Embed the timesteps [F] or [B, F] (1000 sigma) of latent frames."""
        return self._timing(self.condition_embedder, self.blocks, self.scale_shift_table, timesteps)

    def action_timing(self, timesteps: Tensor) -> Timing:
        """Embed the timesteps [F] or [B, F] (1000 sigma) of action frames."""
        table = self.scale_shift_table if self.config.action is None else self.action_scale_shift_table
        return self._timing(self.condition_embedder_action, self.action_expert, table, timesteps)

    @property
    def action_expert(self) -> nn.ModuleList:
        """The blocks that the action stream runs through."""
        return self.blocks if self.config.action is None else self.action_blocks

    def embed_video(self, latents: Tensor) -> Tensor:
        """Map latents [B, C, F, h, w] to tokens [B, F, N, width]."""
        return self.patch_embedding_mlp(self._patchify(latents).to(self.proj_out.weight.dtype))

    def embed_action(self, actions: Tensor) -> Tensor:
        """Map actions [B, F, n, 30] to tokens [B, F, n, width]."""
        return self.action_embedder(actions.to(self.proj_out.weight.dtype))

    def video_velocity(self, x: Tensor, head: list[Tensor], rows: int, columns: int) -> Tensor:
        """Map the last block's tokens [B, F, rows * columns, width] to float32 [B, C, F, h, w]; `head` of a Timing."""
        return self._unpatchify(self.proj_out(modulate(x, *head, self.config.eps)).float(), rows, columns)

    def action_velocity(self, x: Tensor, head: list[Tensor]) -> Tensor:
        """Map the last block's tokens [B, F, n, width] to float32 [B, F, n, 30]."""
        return self.action_proj_out(modulate(x, *head, self.config.eps)).float()

    def grid(self, latents: Tensor) -> tuple[int, int]:
        """Rows and columns of tokens in a frame of latents [..., h, w]."""
        rows, columns = (size // patch for size, patch in zip(latents.shape[-2:], self._patch, strict=True))
        return rows, columns

    def video(
        self,
        latents: Tensor,
        timing: Timing,
        first: int,
        text: TextContext,
        cache: KVCache,
        kind: Write,
        head: bool = True,
    ) -> Tensor | None:
        """Velocity of latent frames, given everything in the cache.

        Args:
            latents: [B, C, F, h, w]; B may be less than that of the cache, whose first rows are then used.
            timing: from `video_timing`.
            first: latent-frame index of the first frame since the episode's start.
            text: the instruction, of the same B.
            cache: read, and extended by these frames' keys and values.
            kind: what becomes of these keys and values.
            head: False: only write the cache and return None.

        Returns:
            float32 [B, C, F, h, w].
        """
        (rows, columns), (batch, _, frames) = self.grid(latents), latents.shape[:3]
        phases = video_phases(self.config.head_dim, first, frames, rows, columns, latents.device)
        x = self.embed_video(latents)
        with cache.write('video', first, frames, rows * columns, kind, batch) as slots:
            x = self._layers(self.blocks, x, timing, phases, text.video, slots, head)
        return None if x is None else self.video_velocity(x, timing.head, rows, columns)

    def action(
        self,
        actions: Tensor,
        timing: Timing,
        first: int,
        text: TextContext,
        cache: KVCache,
        kind: Write,
        head: bool = True,
    ) -> Tensor | None:
        """Velocity of normalised actions [B, F, n, 30]; otherwise as `video`. Unused channels must be zero."""
        batch, frames, count = actions.shape[:3]
        phases = action_phases(self.config.head_dim, first, frames, count, actions.device)
        x = self.embed_action(actions)
        with cache.write('action', first, frames, count, kind, batch) as slots:
            x = self._layers(self.action_expert, x, timing, phases, text.action, slots, head)
        return None if x is None else self.action_velocity(x, timing.head)

    @property
    def _patch(self) -> tuple[int, int]:
        return self.config.patch_size[1:]

    def _layers(
        self,
        blocks: nn.ModuleList,
        x: Tensor,
        timing: Timing,
        phases: Tensor,
        text: list[KeyValue],
        slots: Slots,
        head: bool,
    ) -> Tensor | None:
        for layer, (block, modulation) in enumerate(zip(blocks, timing.layers, strict=True)):
            query, key, value = block.project(x, modulation, phases)
            keys, values = slots.extend(layer, key, value)
            if not head and layer == len(blocks) - 1:
                return None  # all keys and values are written
            x = block.update(x, modulation, attend(query, keys, values), text[layer])
        return x

    def _timing(self, condition: ConditionEmbedder, blocks: nn.ModuleList, table: Tensor, timesteps: Tensor) -> Timing:
        embedding, time = condition.time(timesteps)
        head = modulation_vectors(table, embedding.unsqueeze(-2), scales=(1,))
        return Timing([block.modulation(time) for block in blocks], head)

    def _text_layers(self, blocks: nn.ModuleList, text: Tensor) -> list[KeyValue]:
        layers = [block.attn2.key_value(text) for block in blocks]
        return [(key.transpose(1, 2).contiguous(), value.transpose(1, 2).contiguous()) for key, value in layers]

    def _patchify(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] to [B, F, tokens, C p q], channel-major."""
        p, q = self._patch
        x = latents.unflatten(4, (-1, q)).unflatten(3, (-1, p))  # B C F h p w q
        return x.permute(0, 2, 3, 5, 1, 4, 6).flatten(4, 6).flatten(2, 3)

    def _unpatchify(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """[B, F, tokens, p q C], channel fastest, to [B, C, F, h, w]."""
        p, q = self._patch
        x = x.unflatten(3, (p, q, -1)).unflatten(2, (rows, columns))  # B F h w p q C
        return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


def compile_blocks(transformer: WorldTransformer) -> None:
    """Compile what a block computes apart from the attention, which has the same shapes in every forward of a kind."""
    for module in transformer.modules():
        if isinstance(module, Block):
            module.project, module.update = torch.compile(module.project), torch.compile(module.update)


def normalize(x: Tensor, eps: float, affine: nn.LayerNorm | None = None) -> Tensor:
    """Layer norm over the last axis in float32, with the affine weights of `affine` if given; x's dtype."""
    weight, bias = (affine.weight.float(), affine.bias.float()) if affine is not None else (None, None)
    return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps).type_as(x)


def modulation_vectors(table: Tensor, time: Tensor, scales: tuple[int, ...]) -> list[Tensor]:
    """Add a table [1, m, width] to time [..., m, width]; m vectors [..., 1, width], `scales` of them plus one."""
    vectors = table.float() + time
    vectors[..., list(scales), :] += 1.0
    return list(vectors.unsqueeze(-2).unbind(-3))


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """norm(x) * scale + shift in float32, x [B, F, N, width], the others [..., F, 1, width]; x's dtype."""
    return torch.addcmul(shift, F.layer_norm(x.float(), x.shape[-1:], eps=eps), scale).type_as(x)


def add_gated(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """Return x + gate * y, summed in float32; x's dtype."""
    return torch.addcmul(x.float(), y.float(), gate).type_as(x)
