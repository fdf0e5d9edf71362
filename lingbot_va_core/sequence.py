"""The training form: a whole episode as one sequence, in which a mask decides what the KV cache does at inference.

The sequence is [noisy video | clean video | noisy action | clean action]. Chunk c of the video has id 2 c, the actions
that lead there 2 c + 1; clean tokens are what inference writes to the cache, noisy ones what it denoises.

A sequence trains either visual and inverse dynamics (video from the past, actions from the video), or forward dynamics
(video from the past and its actions). In the second form clean actions at timestep 0 are in the places of noisy ones,
the given actions, with id 2 c like the video that they lead to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lingbot_va_core.attention import SparseMask, attend, attention_mask
from lingbot_va_core.grouped_attention import GroupedMask
from lingbot_va_core.rope import action_phases, video_phases
from lingbot_va_core.transformer import Block, KeyValue, TextContext, WorldTransformer


class SequenceError(ValueError):
    """Frames that do not make a sequence."""


@dataclass(frozen=True)
class Stream:
    """One stream of an episode.

    Attributes:
        noisy: what is denoised: latents [B, C, F, h, w] or normalised actions [B, F, n, 30].
        clean: the history, of the same shape.
        timesteps: of the noisy frames, [F] or [B, F], 1000 sigma.
        clean_timesteps: of the history where it is noisy, too (the paper's noisy history); None: 0.
    """

    noisy: Tensor
    clean: Tensor
    timesteps: Tensor
    clean_timesteps: Tensor | None = None

    def all_timesteps(self) -> Tensor:
        """Timesteps of noisy and clean frames, [2 F] or [B, 2 F]."""
        clean = torch.zeros_like(self.timesteps) if self.clean_timesteps is None else self.clean_timesteps
        return torch.cat(torch.broadcast_tensors(self.timesteps, clean), dim=-1)


def even_chunks(frames: int, size: int) -> list[int]:
    """Cut `frames` frames into chunks of `size`, the last one shorter where it does not divide: chunk floor(f / K)."""
    return [min(size, frames - start) for start in range(0, frames, size)]


def causal_mask(
    chunks: Sequence[int],
    video_tokens: int,
    action_tokens: int,
    window: int | None,
    device: torch.device,
    forward_dynamics: bool = False,
) -> Tensor:
    """Say which token may look at which: bool [L, L], L = 2 F (video_tokens + action_tokens).

    Clean tokens see clean ones whose chunk id is not larger than theirs. Noisy ones see clean ones of smaller ids, and
    noisy ones of their own id. So noisy actions see the clean video of their own chunk.

    For forward dynamics, given actions see clean tokens of earlier chunks and each other within their chunk, but not
    the noisy video; the noisy video sees clean tokens of earlier chunks, itself and the given actions of its chunk.

    Args:
        chunks: frames of each chunk; F in all.
        video_tokens: per latent frame.
        action_tokens: per latent frame.
        window: ids further apart than this do not see each other; None: no limit.
        device: where the result lives.
        forward_dynamics: the form of the sequence.
    """
    frames = sum(chunks)
    chunk = torch.arange(len(chunks), device=device).repeat_interleave(torch.tensor(chunks, device=device))
    given_or_noisy = 2 * chunk if forward_dynamics else 2 * chunk + 1
    chunk_id = torch.cat([2 * chunk, 2 * chunk, given_or_noisy, 2 * chunk + 1])
    clean = torch.tensor([False, True] * 2, device=device).repeat_interleave(frames)
    distance = chunk_id[:, None] - chunk_id
    sees_clean = (distance > 0) | (clean[:, None] & (distance == 0))
    sees_noisy = ~clean[:, None] & (distance == 0)
    mask = torch.where(clean, sees_clean, sees_noisy)
    if forward_dynamics:
        mask[2 * frames : 3 * frames, :frames] = False
    if window is not None:
        mask &= distance.abs() <= window
    tokens = torch.tensor([video_tokens, action_tokens], device=device).repeat_interleave(2 * frames)
    return mask.repeat_interleave(tokens, dim=0).repeat_interleave(tokens, dim=1)


def velocities(
    transformer: WorldTransformer,
    video: Stream,
    action: Stream,
    text: TextContext,
    chunks: Sequence[int],
    window: int | None = None,
    first: int = 0,
    recompute: bool = False,
    forward_dynamics: bool = False,
) -> tuple[Tensor, Tensor]:
    """Predict the velocities of all noisy frames in one forward.

    They are those of inference, chunk by chunk through the cache, with `clean` as what is written to it. In the
    released training every frame, 0 too, has a timestep of its own and belongs to chunk floor(f / K) with one K per
    sequence (`even_chunks`). Frame 0 as at inference, given, is timestep 0 and noisy = clean there; first chunks of
    another length are another list of chunks.

    With `forward_dynamics` the video velocities are those of `forward_dynamics.forward_dynamics`; its loss is on them
    alone. Clean actions stand for `action.noisy`, which is not read, and the action velocities mean nothing. Inference
    always has frame 0 in the history: a first chunk of one frame, without a loss, is its like.

    Args:
        transformer: computes; differentiable.
        video: latents.
        action: normalised actions, unused channels zero.
        text: the instruction.
        chunks: frames of each chunk, in order.
        window: largest difference of chunk ids that is attended to; None: all.
        first: latent-frame index of the first frame since the episode's start.
        recompute: recompute activations in the backward pass in place of keeping them.
        forward_dynamics: the form of the sequence.

    Returns:
        float32 [B, C, F, h, w] and [B, F, n, 30].

    Raises:
        SequenceError: chunks, streams or their shapes do not go together.
    """
    frames, (rows, columns) = video.noisy.shape[2], transformer.grid(video.noisy)
    _check(video, action, chunks)
    if forward_dynamics:
        action = replace(action, noisy=action.clean, timesteps=torch.zeros_like(action.timesteps))
    count, device, head_dim = action.noisy.shape[2], video.noisy.device, transformer.config.head_dim
    mask = attention_mask(causal_mask(chunks, rows * columns, count, window, device, forward_dynamics))
    experts = transformer.blocks, transformer.action_expert
    timings = transformer.video_timing(video.all_timesteps()), transformer.action_timing(action.all_timesteps())
    phases = (
        video_phases(head_dim, first, frames, rows, columns, device).repeat(2, 1),
        action_phases(head_dim, first, frames, count, device).repeat(2, 1),
    )
    streams = [
        transformer.embed_video(torch.cat([video.noisy, video.clean], dim=2)),
        transformer.embed_action(torch.cat([action.noisy, action.clean], dim=1)),
    ]
    for layer in range(transformer.config.num_layers):
        blocks, modulation = [expert[layer] for expert in experts], [timing.layers[layer] for timing in timings]
        arguments = streams, blocks, modulation, phases, [text.video[layer], text.action[layer]], mask
        streams = checkpoint(_layer, *arguments, use_reentrant=False) if recompute else _layer(*arguments)
    heads = [[vector.narrow(-3, 0, frames) for vector in timing.head] for timing in timings]
    noisy = [x[:, :frames] for x in streams]
    return (
        transformer.video_velocity(noisy[0], heads[0], rows, columns),
        transformer.action_velocity(noisy[1], heads[1]),
    )


def _layer(
    streams: list[Tensor],
    blocks: list[Block],
    modulation: list[list[Tensor]],
    phases: tuple[Tensor, Tensor],
    text: list[KeyValue],
    mask: Tensor | SparseMask | GroupedMask,
) -> list[Tensor]:
    """One layer over both streams [B, 2 F, N, width], which meet in the attention."""
    projected = [
        block.project(x, vectors, phase)
        for x, block, vectors, phase in zip(streams, blocks, modulation, phases, strict=True)
    ]
    query, key, value = (torch.cat(parts, dim=1) for parts in zip(*projected, strict=True))
    attended = attend(query, key.transpose(1, 2), value.transpose(1, 2), mask)
    parts = attended.split([own[0].shape[1] for own in projected], dim=1)
    return [
        block.update(x, vectors, part, layer_text)
        for x, block, vectors, part, layer_text in zip(streams, blocks, modulation, parts, text, strict=True)
    ]


def _check(video: Stream, action: Stream, chunks: Sequence[int]) -> None:
    frames = video.noisy.shape[2]
    if not chunks or min(chunks) < 1 or sum(chunks) != frames:
        raise SequenceError(f'chunks are {list(chunks)}; they must be positive and add up to the {frames} frames')
    if action.noisy.shape[1] != frames:
        raise SequenceError(f'{frames} latent frames but {action.noisy.shape[1]} frames of actions; give as many')
    for name, stream in (('video', video), ('action', action)):
        if stream.noisy.shape != stream.clean.shape:
            raise SequenceError(
                f'{name}: noisy is {list(stream.noisy.shape)} but clean {list(stream.clean.shape)}; they must be equal'
            )
        for times in (stream.timesteps, stream.clean_timesteps):
            if times is not None and times.shape not in ((frames,), (len(stream.noisy), frames)):
                raise SequenceError(
                    f'{name}: timesteps are {list(times.shape)}; they must be [{frames}] or '
                    f'[{len(stream.noisy)}, {frames}]'
                )
