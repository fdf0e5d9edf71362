"""Training of the world model on a mixture of data sets."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingbot_va_core.checkpoint import save_checkpoint
from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.text import remember
from lingbot_va_core.training.clips import HELD_OUT, TRAIN, ClipSampler
from lingbot_va_core.training.distributed import World, shard, whole
from lingbot_va_core.training.episodes import Mixture
from lingbot_va_core.training.lora import add_adapters, merged_state
from lingbot_va_core.training.objective import Example, Objective, noised
from lingbot_va_core.training.pictures import draw_imagined
from lingbot_va_core.training.settings import ClipSettings, PolicySettings, require
from lingbot_va_core.transformer import WorldTransformer, compile_blocks
from lingbot_va_core.vae import TinyVAE
from lingbot_va_core.world_model import WorldModel


def check_reach(clips: ClipSettings, rollout: RolloutConfig) -> str | None:
    """Compare what is trained with how the model is to be run.

    Returns:
        A warning where the asynchronous modes look back on more frames than a clip has: the history, the chunk in
        execution and the predicted one are attn_window // 2 + 1 chunks. None: a clip is long enough.

    Raises:
        TrainingError: no forward has chunks as long as those at inference.
    """
    size = rollout.chunk_frames
    require(
        clips.smallest_chunk <= size <= clips.largest_chunk,
        f'rollout.chunk_frames is {size}, but chunks of {clips.smallest_chunk} to {clips.largest_chunk} frames are '
        'trained; let clips.smallest_chunk and clips.largest_chunk include it',
    )
    reach = (rollout.attn_window // 2 + 1) * size
    if clips.frames >= reach:
        return None
    return (
        f'clips.frames is {clips.frames}, but the context at inference has up to {reach} latent frames '
        f'(attn_window {rollout.attn_window}, chunks of {size}), more than the model is trained on; set '
        f'clips.frames={reach} or a smaller rollout.attn_window'
    )


class PolicyTask:
    """The world model as a `trainer.Task`.

    Args:
        model: what is trained, in float32; its rollout and quantiles are those that the checkpoint will have. Its
            transformer is changed in place.
        mixture: the episodes; of the first data set's held-out ones, the longest is drawn in pictures.
        settings: everything.
        world: the processes.
        name: of the model in the checkpoint.
        record: what is known of the run, see `run_record`.
    """

    name = 'imagined'
    terms = ('video', 'action', 'fdm')

    def __init__(
        self,
        model: WorldModel,
        mixture: Mixture,
        settings: PolicySettings,
        world: World,
        name: str = 'trained',
        record: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings, self._world, self._record = settings, world, record or {}
        self._model = replace(model, name=name, text=remember(model.text, mixture.instructions))
        self._own = world.share(settings.run.batch, 'run.batch')
        texts = {text: self._model.text.encode(text) for text in (*mixture.instructions, '')}
        own_start = isinstance(model.vae, TinyVAE)  # the only one whose latents forget all but the frame before
        arguments = texts, settings.clips, settings.run.seed, own_start
        self._trained = ClipSampler(mixture.trained, *arguments)
        long = [
            (episodes, weight)
            for episodes, weight in mixture.held_out
            if weight > 0 and any(len(episode.latents) >= settings.clips.frames for episode in episodes)
        ]
        self._held_out = ClipSampler(long, *arguments) if long else None
        shown = max(mixture.held_out[0][0], key=lambda episode: len(episode.latents), default=None)
        fits = shown is not None and len(shown.latents) > model.config.rollout.chunk_frames
        self._shown = shown if fits else None
        objective = Objective(model.transformer.train(), settings.objective, settings.run.recompute)
        if settings.lora.rank:
            add_adapters(model.transformer, settings.lora, settings.run.seed)
        self.module = shard(objective.to(world.device), world, settings.run.precision)
        if settings.run.compile:
            compile_blocks(model.transformer)

    def loss(self, step: int, micro: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `trainer.Task`."""
        return self._forward(self._example(self._trained, TRAIN, step, micro))

    def evaluate(self) -> dict[str, float]:
        """See `trainer.Task`; always the same clips and noise."""
        if self._held_out is None:
            return {}
        values: dict[str, list[Tensor]] = {}
        for micro in range(self._settings.run.evaluate_batches):
            _, terms = self._forward(self._example(self._held_out, HELD_OUT, 0, micro))
            for name, value in terms.items():
                values.setdefault(name, []).append(value)
        return {name: float(self._world.mean(torch.stack(parts).mean())) for name, parts in values.items()}

    def draw(self, path: Path) -> bool:
        """See `trainer.Task`."""
        if self._shown is None:
            return False
        model = self.trained_model(self._world.device)
        if self._world.first:
            draw_imagined(model, self._shown, path)
        return True

    def export(self, folder: Path, outcome: Mapping[str, Any]) -> None:
        """See `trainer.Task`."""
        model = self.trained_model(torch.device('cpu'))
        if self._world.first:
            save_checkpoint(replace(model, training=(*model.training, {**self._record, **outcome})), folder)

    def trained_model(self, device: torch.device) -> WorldModel:
        """Return the model as it stands, whole and apart from what is trained on; all processes must call this."""
        weights = whole(merged_state(self.module.transformer))
        with torch.device('meta'):
            transformer = WorldTransformer(self._model.config.transformer)
        transformer.load_state_dict(
            {name: w.detach().to(device, copy=True) for name, w in weights.items()}, assign=True
        )
        return replace(
            self._model,
            transformer=transformer.eval().requires_grad_(False),
            vae=self._model.vae.to(device),
            device=device,
            dtype=next(transformer.parameters()).dtype,
        )

    def _example(self, sampler: ClipSampler, stream: int, step: int, micro: int) -> Example:
        plan = sampler.plan(stream, step, micro)
        clips = [sampler.clip(plan, stream, step, micro, index) for index in self._own]
        return noised(plan, clips, self._settings.objective, self._model.config.rollout).to(self._world.device)

    def _forward(self, example: Example) -> tuple[Tensor, dict[str, Tensor]]:
        with _autocast(self._world, self._settings.run.precision):
            return self.module(example)


def _autocast(world: World, precision: str) -> AbstractContextManager[None]:
    """Matrix products in bfloat16, unless sharding already does so."""
    enabled = precision == 'bfloat16' and world.size == 1
    return torch.autocast(world.device.type, torch.bfloat16, enabled=enabled)
