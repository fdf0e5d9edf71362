"""How much work a closed-loop cycle is: floating-point operations and bytes of every forward, counted from the sizes.

A multiplication with its addition is two operations. Bytes are those that cannot stay in a processor's caches from one
forward to the next where a model is large: weights once per forward, keys and values of the context and of the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lingbot_va_core.benchmarks.timing import Ceilings
from lingbot_va_core.config import ExpertConfig, ModelConfig
from lingbot_va_core.flow_matching import schedule


@dataclass(frozen=True)
class Forward:
    """One forward of one stream.

    Attributes:
        part: of the cycle: 'ground', 'video' or 'action'.
        stream: 'video' or 'action'.
        rows: of the batch.
        tokens: in each row.
        context: tokens that are attended to, its own included.
        head: False: it ends with the keys and values of the last layer.
    """

    part: str
    stream: str
    rows: int
    tokens: int
    context: int
    head: bool = True


def cycle_forwards(config: ModelConfig) -> list[Forward]:
    """Return the forwards of a `Session`'s cycle in mode sync once the window is full, released eviction."""
    rollout, slots = config.rollout, config.cache_slots
    video, action = (rollout.chunk_frames * n for n in (config.video_tokens, rollout.actions_per_latent))
    video_rows, action_rows = (2 if g > 1 else 1 for g in (rollout.video_guidance, rollout.action_guidance))
    rows = max(video_rows, action_rows)
    plan = schedule(
        rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s, rollout.video_s_axis
    )
    steps = len(plan.sigmas) - 1
    denoising = [Forward('video', 'video', video_rows, video, slots)] * (steps - plan.partial)
    last = Forward('video', 'video', rows if plan.partial else action_rows, video, slots, head=plan.partial)
    return [
        Forward('ground', 'video', rows, video, slots - action, head=False),
        Forward('ground', 'action', rows, action, slots, head=False),
        *denoising,
        last,
        *[Forward('action', 'action', action_rows, action, slots)] * rollout.action_steps,
    ]


def forward_flops(config: ModelConfig, forward: Forward) -> int:
    """Count the operations of the matrix products and attentions of a forward."""
    transformer, count = config.transformer, forward.rows * forward.tokens
    expert, ends = _expert(config, forward.stream)
    inner, layers = transformer.video.width, transformer.num_layers
    attention = 4 * count * (forward.context * inner + config.text.length * expert.width)
    layer = 2 * count * _layer_weights(expert, inner) + attention
    total = layers * layer + 2 * count * ends
    if forward.head:
        return total
    return total - layer + 2 * count * 3 * expert.width * inner - count * ends


def forward_bytes(config: ModelConfig, forward: Forward, itemsize: int) -> int:
    """Count the bytes of weights, keys and values that a forward reads and writes."""
    transformer = config.transformer
    expert, ends = _expert(config, forward.stream)
    inner, layers = transformer.video.width, transformer.num_layers
    text = 2 * forward.rows * config.text.length * expert.width
    own = 2 * forward.rows * forward.tokens * inner
    seen = 2 * forward.rows * forward.context * inner
    total = layers * (_layer_weights(expert, inner) + text + own + seen) + ends
    if not forward.head:
        total -= _layer_weights(expert, inner) - 3 * expert.width * inner + text + seen + ends // 2
    return itemsize * total


def roofline(config: ModelConfig, forwards: Sequence[Forward], itemsize: int, ceilings: Ceilings) -> dict[str, float]:
    """Return operations, bytes and the least time of forwards that follow each other."""
    work = [(forward_flops(config, each), forward_bytes(config, each, itemsize)) for each in forwards]
    return {
        'gflop': sum(flops for flops, _ in work) / 1e9,
        'gbyte': sum(nbytes for _, nbytes in work) / 1e9,
        'ms': 1e3 * sum(ceilings.seconds(*each) for each in work),
    }


def _expert(config: ModelConfig, stream: str) -> tuple[ExpertConfig, int]:
    """Return the widths of a stream, and its numbers of weights before the first and behind the last layer."""
    transformer = config.transformer
    if stream == 'video':
        return transformer.video, 2 * transformer.patch_channels * transformer.video.width
    expert = transformer.action or transformer.video
    return expert, 2 * transformer.action_dim * expert.width


def _layer_weights(expert: ExpertConfig, inner: int) -> int:
    """Count the weights of a layer's matrices that a forward uses: those of the text's keys and values are not."""
    return 4 * expert.width * inner + 2 * expert.width**2 + 2 * expert.width * expert.ffn_width
