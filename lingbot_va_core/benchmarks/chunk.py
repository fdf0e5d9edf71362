"""One closed-loop cycle: encode what was seen, write it to the cache, denoise video, denoise actions.

Ours and the released way of running the same weights take turns on the same images, noise and executed actions, from
the beginning of an episode until the window is full and beyond, so that every chunk of one is compared with the other's
and every disturbance of the machine meets both.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lingbot_va_core.benchmarks.models import INSTRUCTION, ROBOT, check_counts
from lingbot_va_core.benchmarks.released_loop import OVERHEADS, ReleasedLoop
from lingbot_va_core.benchmarks.timing import measure_ceilings, peak_memory_mib, spread, timed
from lingbot_va_core.benchmarks.workload import cycle_forwards, roofline
from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.config import ModelConfig
from lingbot_va_core.golden import relative_error
from lingbot_va_core.robot import load_profile
from lingbot_va_core.session import Chunk, Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.vae import build_vae
from lingbot_va_core.world_model import WorldModel

PARTS = ('encode', 'ground', 'video', 'action')
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # largest difference, relative to the largest value
CAMERA = (480, 640)  # rows and columns of an image as it comes


class Eyes:
    """Random images of all cameras, and their latents; without `encode`, random latents."""

    def __init__(self, model: WorldModel, encode: bool) -> None:
        self._model, self._random = model, np.random.default_rng(0)
        self._encoder = StreamingEncoder(model.vae, model.config.rollout, device=model.device) if encode else None
        self._first = True

    def see(self, latent_frames: int) -> tuple[Tensor, float]:
        """Return the next latent frames [F, C, h, w], and the seconds that encoding them took."""
        shape = self._model.config.latent_shape
        if self._encoder is None:
            return torch.from_numpy(self._random.standard_normal((latent_frames, *shape), np.float32)), 0.0
        count, self._first = (1 if self._first else VIDEO_FRAMES_PER_LATENT * latent_frames), False
        cameras = self._model.config.rollout.cameras
        images = [list(self._random.integers(0, 256, (cameras, *CAMERA, 3), np.uint8)) for _ in range(count)]
        return timed(lambda: self._encoder.encode(images), self._model.device)


def released_settings(config: ModelConfig) -> ModelConfig:
    """Return the configuration with the released eviction, which both ways of running have in common."""
    return replace(config, rollout=replace(config.rollout, cache_eviction='released'))


def measure_chunk(
    model: WorldModel, repeats: int, encode: bool = True, baseline: bool = True, ablate: bool = False
) -> dict[str, Any]:
    """Measure cycles in mode sync with the window full.

    Args:
        model: what runs; its `cache_eviction` is 'released', see `released_settings`.
        repeats: cycles that are measured.
        encode: with the VAE; otherwise latents are drawn.
        baseline: measure the released way, too.
        ablate: measure the released way without each of its overheads, too.

    Raises:
        ConfigError: `repeats` is below 1.
    """
    check_counts(cycles=repeats)
    config, eyes = model.config, Eyes(model, encode)
    loops: dict[str, Session | ReleasedLoop] = {'ours': Session(model)}
    if baseline:
        loops['baseline'] = ReleasedLoop(model)
    if ablate:
        loops |= {f'without_{name}': ReleasedLoop(model, (name,)) for name in OVERHEADS}
    for loop in loops.values():
        loop.start(INSTRUCTION)
    times: dict[str, list[list[float]]] = {name: [] for name in loops}
    errors = {'latents': 0.0, 'actions': 0.0}
    generator = torch.Generator().manual_seed(0)
    fill = config.rollout.attn_window // 2 + 1
    indices, executed = range(1), np.empty(0)
    for cycle in range(fill + repeats):
        latents, encode_s = eyes.see(len(indices))
        noise = _noise(config, generator)
        chunks: dict[str, Chunk] = {}
        for name, loop in loops.items():
            for i, index in enumerate(indices):
                loop.observe(index, latents[i])
                if index:
                    loop.executed(index, executed[i])
            chunks[name] = chunk = loop.predict(*noise)
            if cycle >= fill:
                times[name].append([encode_s, chunk.grounding_s, chunk.video_s, chunk.action_s])
        ours = chunks['ours']
        indices = range(ours.first_latent_index, ours.first_latent_index + len(ours.actions))
        executed = ours.actions
        for other in list(chunks.values())[1:]:
            for name, error in _differences(ours, other).items():
                errors[name] = max(errors[name], error)
    result = {
        **describe(config, model.dtype),
        'cycles': repeats,
        **{name: _summary(rows) for name, rows in times.items()},
        'roofline': _roofline(model, encode),
        'memory_mib': peak_memory_mib(model.device),
    }
    control = load_profile(ROBOT).clock.action_ns
    result['motion_ms'] = 1e-6 * control * config.rollout.chunk_frames * config.rollout.actions_per_latent
    result['share_of_motion'] = result['ours']['cycle_ms']['p50'] / result['motion_ms']
    result['of_roofline'] = result['roofline']['cycle']['ms'] / result['ours']['cycle_ms']['p50']
    if baseline:
        result['speedup'] = result['baseline']['cycle_ms']['p50'] / result['ours']['cycle_ms']['p50']
    if len(loops) > 1:
        tolerance = TOLERANCES[model.dtype]
        result['difference'] = {**errors, 'tolerance': tolerance, 'agrees': max(errors.values()) <= tolerance}
    return result


def describe(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Return what the cost of a cycle depends on."""
    rollout, forwards = config.rollout, cycle_forwards(config)
    counted = {part: sum(each.part == part for each in forwards) for part in PARTS[1:]}
    return {
        'preset': config.name,
        'tokens_per_latent_frame': {'video': config.video_tokens, 'action': rollout.actions_per_latent},
        'chunk_frames': rollout.chunk_frames,
        'forwards': counted,
        'guidance': {'video': rollout.video_guidance, 'action': rollout.action_guidance},
        'window_tokens': config.cache_slots,
        'text_rows': config.text.length,
        'dtype': str(dtype).removeprefix('torch.'),
    }


def encoder_flops(config: ModelConfig, latent_frames: int) -> int:
    """Count the operations of encoding latent frames of all cameras, without computing anything."""
    total = 0
    with torch.device('meta'), torch.no_grad():
        vae = build_vae(config.vae)
        for (height, width), cameras in Counter(config.rollout.view_sizes).items():
            clip = torch.empty(cameras, 3, 1 + VIDEO_FRAMES_PER_LATENT * latent_frames, height, width)
            _, state = vae.encode(clip[:, :, :1], None)
            with FlopCounterMode(display=False) as counter:
                vae.encode(clip[:, :, 1:], state)
            total += counter.get_total_flops()
    return total


def _noise(config: ModelConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    channels, rows, columns = config.latent_shape
    frames = config.rollout.chunk_frames
    video = torch.randn(channels, frames, rows, columns, generator=generator)
    shape = (frames, config.rollout.actions_per_latent, config.transformer.action_dim)
    return video, torch.randn(shape, generator=generator)


def _differences(ours: Chunk, theirs: Chunk) -> dict[str, float]:
    return {
        'latents': relative_error(ours.latents, theirs.latents),
        'actions': relative_error(torch.from_numpy(ours.actions), torch.from_numpy(theirs.actions)),
    }


def _summary(rows: list[list[float]]) -> dict[str, Any]:
    parts = {f'{part}_ms': spread(times) for part, times in zip(PARTS, zip(*rows, strict=True), strict=True)}
    return {'cycle_ms': spread([sum(row) for row in rows]), **parts}


def _roofline(model: WorldModel, encode: bool) -> dict[str, Any]:
    """Return the least time of each part of a cycle on this machine, and what it follows from."""
    config, ceilings = model.config, measure_ceilings(model.device, model.dtype)
    forwards = cycle_forwards(config)
    parts = {'encode': {'gflop': 0.0, 'gbyte': 0.0, 'ms': 0.0}}
    if encode:  # in float32; convolutions are bound by arithmetic
        flops = encoder_flops(config, config.rollout.chunk_frames)
        single = measure_ceilings(model.device, torch.float32)
        parts['encode'] = {'gflop': flops / 1e9, 'gbyte': 0.0, 'ms': 1e3 * single.seconds(flops, 0)}
    for part in PARTS[1:]:
        own = [each for each in forwards if each.part == part]
        parts[part] = roofline(config, own, model.dtype.itemsize, ceilings)
    cycle = {name: sum(part[name] for part in parts.values()) for name in ('gflop', 'gbyte', 'ms')}
    return {
        'gflop_per_s': ceilings.flops / 1e9,
        'gbyte_per_s': ceilings.bandwidth / 1e9,
        'cycle': cycle,
        **parts,
    }
