"""What a forward costs as the history grows, and what a token of history costs in memory.

The baseline keeps no window: it attends to everything since the episode's start, in a cache large enough for it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lingbot_va_core.benchmarks.models import INSTRUCTION, check_counts
from lingbot_va_core.benchmarks.timing import spread, timed
from lingbot_va_core.cache import Write
from lingbot_va_core.config import ModelConfig
from lingbot_va_core.context import Context
from lingbot_va_core.world_model import WorldModel

SIGMA = 0.5


def measure_cache(model: WorldModel, windows: Sequence[int], repeats: int) -> dict[str, Any]:
    """Measure a video forward behind histories of different lengths.

    Args:
        model: what runs; its VAE is not used.
        windows: lengths of the history as multiples of the window, rising, such as 1, 2, 10.
        repeats: forwards for each.

    Returns:
        For each length the times with a window and without, and the memory of a token and of the window.

    Raises:
        ConfigError: a count is below 1.
    """
    check_counts(repeats=repeats, windows=min(windows))
    config, size = model.config, model.config.rollout.chunk_frames
    per_window = config.rollout.attn_window // 2 - 1  # chunks of real history; the forward takes the place of one more
    window = History(model, config.cache_slots)
    everything = History(model, (max(windows) * per_window + 1) * config.chunk_tokens)
    rows, base = [], None
    for count in windows:
        chunks = max(count * per_window, 1)
        for history in (window, everything):
            history.grow(chunks)
        times = {'ours': [], 'baseline': []}
        for _ in range(repeats):  # in turns, so that a disturbance meets both
            times['ours'].append(window.forward_s())
            times['baseline'].append(everything.forward_s())
        row = {'windows': count, 'history_frames': chunks * size, 'tokens': {
            'ours': window.tokens, 'baseline': everything.tokens}}  # fmt: skip
        row |= {f'{name}_ms': spread(values) for name, values in times.items()}
        base = base or row
        row['ratio'] = {name: row[f'{name}_ms']['p50'] / base[f'{name}_ms']['p50'] for name in ('ours', 'baseline')}
        rows.append(row)
    return {
        'preset': config.name,
        'dtype': str(model.dtype).removeprefix('torch.'),
        'bytes_per_token': bytes_per_token(config, window.rows, model.dtype),
        'window_mib': window.nbytes / 2**20,
        'histories': rows,
    }


def bytes_per_token(config: ModelConfig, rows: int, dtype: torch.dtype) -> int:
    """Count the memory of one token's keys and values in all layers and rows."""
    transformer = config.transformer
    return 2 * transformer.num_layers * rows * transformer.num_heads * transformer.head_dim * dtype.itemsize


class History:
    """A context that is filled with random frames, a chunk at a time."""

    def __init__(self, model: WorldModel, slots: int) -> None:
        self._model, self._config, self._chunks = model, model.config, 0
        self._context = Context(model, slots, 'frames')
        texts = [model.text.encode(text) for text in (INSTRUCTION, '')]
        self.rows = self._context.rows
        self._context.set_text(torch.stack(texts[: self.rows]))
        self._generator = torch.Generator().manual_seed(0)

    @property
    def tokens(self) -> int:
        """Tokens that are held."""
        return self._context.cache.tokens

    @property
    def nbytes(self) -> int:
        """Memory of the cache."""
        return self._context.cache.nbytes

    @torch.inference_mode()
    def grow(self, chunks: int) -> None:
        """Write clean chunks until there were so many since the start."""
        rollout, cache = self._config.rollout, self._context.cache
        while self._chunks < chunks:
            actions = (rollout.chunk_frames, rollout.actions_per_latent, self._config.transformer.action_dim)
            first = self._chunks * rollout.chunk_frames
            self._context.write(self._latents(), self._random(actions), first, Write.CLEAN)
            cache.trim(cache.slots - self._config.chunk_tokens)
            self._chunks += 1

    @torch.inference_mode()
    def forward_s(self) -> float:
        """Measure one denoising forward of the next chunk's video."""
        latents, first = self._latents(), self._chunks * self._config.rollout.chunk_frames
        rows = self._context.video_rows
        return timed(lambda: self._context.video(latents, SIGMA, first, Write.TRANSIENT, rows), self._model.device)[1]

    def _latents(self) -> Tensor:
        channels, rows, columns = self._config.latent_shape
        return self._random((channels, self._config.rollout.chunk_frames, rows, columns))

    def _random(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self._model.device)
