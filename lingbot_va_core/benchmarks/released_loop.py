"""The closed loop as the released implementation runs it, on the weights of our model: the baseline of `bench chunk`.

The numbers that come out are those of `Session` in mode sync with `cache_eviction` 'released'; the work is not:

- every forward embeds the text again and projects it to keys and values in every layer;
- every forward embeds the timestep of every token, though all tokens of a frame have the same one;
- both rows of guidance are computed for every forward, also for actions that are not guided;
- rotary phases are computed for every forward, and applied, in float64;
- keys and values lie in a pool of slots, and every layer gathers a copy of those in use;
- a forward that only writes keys and values runs to its end, and one more writes those of the predicted actions.

What costs time in the released code without being part of this (cleared caches, debug output, sharding over one
process) is left out, so that the baseline is rather faster than the original.
"""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lingbot_va_core import rope
from lingbot_va_core.benchmarks.slot_pool import SlotPool
from lingbot_va_core.flow_matching import TIMESTEP_SCALE, Schedule, schedule
from lingbot_va_core.rope import THETA, axis_dims
from lingbot_va_core.session import Chunk
from lingbot_va_core.transformer import Block, KeyValue
from lingbot_va_core.world_model import WorldModel

VIDEO, ACTION = 'video', 'action'
OVERHEADS = ('text', 'time', 'rows', 'rotary')  # the first four of the list above, by name


class ReleasedLoop:
    """Takes and gives what a `Session` in mode sync does, for complete chunks that follow each other.

    Args:
        model: what runs.
        spared: those of `OVERHEADS` that it does without, to see what each costs.
    """

    def __init__(self, model: WorldModel, spared: tuple[str, ...] = ()) -> None:
        self._spared = spared
        self._model, self._net, self._rollout = model, model.transformer, model.config.rollout
        rollout = self._rollout
        self._rows = 2 if max(rollout.video_guidance, rollout.action_guidance) > 1 else 1
        self._plans = {
            VIDEO: schedule(
                rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s, rollout.video_s_axis
            ),
            ACTION: schedule(rollout.action_steps, rollout.action_shift),
        }
        self.pool = SlotPool(model.config, self._rows, model.device, model.dtype)
        self._used = model.normalizer.used(model.device)
        self._action_alone = rollout.action_guidance == 1

    @torch.inference_mode()
    def start(self, instruction: str) -> None:
        """Begin an episode."""
        self._text = torch.stack([self._model.text.encode(text) for text in (instruction, '')][: self._rows])
        self._text = self._text.to(self._model.device, self._model.dtype)
        self._text_layers = self._net.text_context(self._text) if 'text' in self._spared else None
        still = torch.zeros(self._rollout.actions_per_latent, self._used.shape[0], device=self._model.device)
        self._latents: dict[int, Tensor] = {}
        self._actions = {0: still}
        self._end = self._chunks = 0
        self.pool.clear()

    def observe(self, index: int, latent: Tensor) -> None:
        """Take a real latent frame [C, h, w]."""
        self._latents[index] = latent.to(self._model.device)

    def executed(self, index: int, actions: np.ndarray) -> None:
        """Take the actions executed in a latent frame, [n, 30] in SI units."""
        self._actions[index] = self._model.normalizer.normalize(torch.from_numpy(actions).to(self._model.device))

    @torch.inference_mode()
    def predict(self, video_noise: Tensor, action_noise: Tensor) -> Chunk:
        """Predict the next chunk from noise [C, K, h, w] and [K, n, 30]."""
        started = time.perf_counter()
        given, observed = None, tuple(sorted(self._latents))
        if self._end == 0 and self._rollout.chunk_frames > 1:
            given = self._latents[0]
        else:
            self._ground()
        first = 0 if given is not None else max(self._end, 1)
        self._synchronize()
        grounded = time.perf_counter()

        def hold(x: Tensor) -> Tensor:
            return x if given is None else torch.cat([given[:, None], x[:, 1:]], dim=1)

        def hold_still(x: Tensor) -> Tensor:
            x = torch.where(self._used, x, 0.0)
            return x if given is None else torch.cat([torch.zeros_like(x[:1]), x[1:]])

        latents = self._denoise(VIDEO, video_noise, first, given is not None, hold)
        self._synchronize()
        video_done = time.perf_counter()
        actions = self._denoise(ACTION, action_noise, first, given is not None, hold_still)
        skip = 0 if given is None else 1
        chunk = Chunk(
            index=self._chunks,
            first_latent_index=first + skip,
            latents=latents[:, skip:].transpose(0, 1).cpu().contiguous(),
            actions=self._model.normalizer.denormalize(actions[skip:]).cpu().numpy(),
            observation_indices=observed,
            imagined_indices=(),
            executed_indices=(),
            grounding_s=grounded - started,
            video_s=video_done - grounded,
            action_s=time.perf_counter() - video_done,
        )
        self._end, self._chunks = first + self._rollout.chunk_frames, self._chunks + 1
        return chunk

    def _ground(self) -> None:
        self.pool.drop_predicted()
        frames = sorted(self._latents)
        latents = torch.stack([self._latents[i] for i in frames], dim=1)
        self._forward(VIDEO, latents, 0.0, frames[0], keep=True)
        self._forward(ACTION, torch.stack([self._actions[i] for i in frames]), 0.0, frames[0], keep=True)
        self._latents, self._actions = {}, {}

    def _denoise(self, stream: str, x: Tensor, first: int, given: bool, clamp: Callable[[Tensor], Tensor]) -> Tensor:
        plan: Schedule = self._plans[stream]
        scale = self._rollout.video_guidance if stream == VIDEO else self._rollout.action_guidance
        x = x.to(self._model.device)
        steps = list(pairwise(plan.sigmas))
        for i, (sigma, following) in enumerate(steps):
            x = clamp(x)
            kept = plan.partial and i == len(steps) - 1
            velocity = self._forward(stream, x, sigma, first, kept, predicted=True, given=given)
            guided = velocity[0] if scale == 1 else velocity[1] + scale * (velocity[0] - velocity[1])
            x = x + guided * (following - sigma)
        x = clamp(x)
        if not plan.partial:
            self._forward(stream, x, 0.0, first, keep=True, predicted=True, given=given)
        return x

    def _forward(
        self,
        stream: str,
        x: Tensor,
        sigma: float,
        first: int,
        keep: bool,
        predicted: bool = False,
        given: bool = False,
    ) -> Tensor:
        rows = 1 if 'rows' in self._spared and stream == ACTION and predicted and self._action_alone else self._rows
        net, x = self._net, x.expand(rows, *x.shape)
        if stream == VIDEO:
            grid: tuple[int, ...] = net.grid(x)
            tokens, blocks = net.embed_video(x), net.blocks
            times, table = net.condition_embedder, net.scale_shift_table
            texts = net.condition_embedder
        else:
            grid = x.shape[2:3]
            tokens, blocks, times = net.embed_action(x), net.action_expert, net.condition_embedder_action
            shared = net.config.action is None
            table = net.scale_shift_table if shared else net.action_scale_shift_table
            texts = net.condition_embedder if shared else net.condition_embedder_action
        frames, per_frame = tokens.shape[1:3]
        timesteps = torch.full((rows, frames), sigma * TIMESTEP_SCALE, device=x.device)
        if given:
            timesteps[:, 0] = 0.0
        if 'time' in self._spared:
            embedding, modulation = (part.repeat_interleave(per_frame, dim=1) for part in times.time(timesteps))
        else:
            embedding, modulation = times.time(timesteps.repeat_interleave(per_frame, dim=1))
        if self._text_layers is not None:
            text: Tensor | list[KeyValue] = getattr(self._text_layers.rows(rows), stream)
        else:
            text = texts.text(self._text[:rows])
        phases = self._phases(first, frames, grid)
        tokens = tokens.flatten(1, 2)
        slots = self.pool.take(tokens.shape[1], predicted)
        valid = self.pool.valid
        for layer, block in enumerate(blocks):
            tokens = self._block(block, layer, tokens, modulation, phases, text, slots, valid)
        if not keep:
            self.pool.free(slots)
        shift, scale = ((table[:, None].float() + embedding[:, :, None]).unflatten(1, (frames, -1))).unbind(3)
        head = [shift, 1.0 + scale]
        tokens = tokens.unflatten(1, (frames, -1))
        return net.video_velocity(tokens, head, *grid) if stream == VIDEO else net.action_velocity(tokens, head)

    def _block(
        self,
        block: Block,
        layer: int,
        x: Tensor,
        time: Tensor,
        phases: Tensor,
        text: Tensor | list[KeyValue],
        slots: Tensor,
        valid: Tensor,
    ) -> Tensor:
        eps, width = block.eps, x.shape[-1:]
        shift1, scale1, gate1, shift2, scale2, gate2 = (block.scale_shift_table[:, None].float() + time).unbind(2)
        y = (F.layer_norm(x.float(), width, eps=eps) * (1 + scale1) + shift1).type_as(x)
        key, value = block.attn1.key_value(y)
        turn = rope.rotate if phases.dtype == torch.complex64 else rotate
        key, value = self.pool.extend(layer, slots, valid, turn(key, phases), value)
        query = turn(block.attn1.query(y), phases).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        x = (x.float() + block.attn1.output(attended).float() * gate1).type_as(x)
        norm = block.norm2
        y = F.layer_norm(x.float(), width, norm.weight.float(), norm.bias.float(), eps).type_as(x)
        if isinstance(text, list):
            key, value = text[layer]
        else:
            key, value = (part.transpose(1, 2) for part in block.attn2.key_value(text))
        attended = F.scaled_dot_product_attention(block.attn2.query(y).transpose(1, 2), key, value).transpose(1, 2)
        x = x + block.attn2.output(attended)
        y = (F.layer_norm(x.float(), width, eps=eps) * (1 + scale2) + shift2).type_as(x)
        return (x.float() + block.ffn(y).float() * gate2).type_as(x)

    def _phases(self, first: int, frames: int, grid: tuple[int, ...]) -> Tensor:
        """Return rotary phases of video tokens, `grid` rows and columns, or of actions, `grid` their number."""
        arguments = self._net.config.head_dim, first, frames, *grid
        if 'rotary' in self._spared:
            compute = rope.video_phases if len(grid) == 2 else rope.action_phases
            return compute(*arguments, self._model.device)
        compute = video_phases if len(grid) == 2 else action_phases
        return compute(*arguments).to(self._model.device)

    def _synchronize(self) -> None:
        if self._model.device.type == 'cuda':
            torch.cuda.synchronize(self._model.device)


def video_phases(head_dim: int, first: int, frames: int, rows: int, columns: int) -> Tensor:
    """Unit phases complex128 [tokens, head_dim / 2] of video tokens in (frame, row, column) order."""
    axes = torch.arange(first, first + frames), torch.arange(rows), torch.arange(columns)
    return _phases(head_dim, *(axis.flatten() for axis in torch.meshgrid(*axes, indexing='ij')))


def action_phases(head_dim: int, first: int, frames: int, count: int) -> Tensor:
    """Likewise of action tokens: the k-th of n in frame f is at (f + k / (n + 1), -1, -1)."""
    offsets = torch.arange(1, count + 1, dtype=torch.float64) / (count + 1)
    frame = (torch.arange(first, first + frames, dtype=torch.float64)[:, None] + offsets).flatten()
    outside = torch.full_like(frame, -1.0)
    return _phases(head_dim, frame, outside, outside)


def rotate(x: Tensor, phases: Tensor) -> Tensor:
    """Rotate adjacent pairs of [B, L, heads, head_dim] in float64; x's dtype."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases[:, None]).flatten(-2).type_as(x)


def _phases(head_dim: int, *positions: Tensor) -> Tensor:
    angles = [
        torch.outer(position.double(), THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim))
        for dim, position in zip(axis_dims(head_dim), positions, strict=True)
    ]
    angle = torch.cat(angles, dim=-1).float().double()
    return torch.polar(torch.ones_like(angle), angle)
