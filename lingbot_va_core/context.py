"""What the model sees when it predicts: the text, and past frames in the KV cache; and denoising given these."""

from collections.abc import Callable

import torch
from torch import Tensor

from lingbot_va_core.cache import KVCache, Write
from lingbot_va_core.flow_matching import TIMESTEP_SCALE, Schedule, denoise
from lingbot_va_core.transformer import TextContext, Timing
from lingbot_va_core.world_model import WorldModel


class Context:
    """Text and cache of one model, in two rows of a batch (with and without text) where it is guided.

    Latents are [C, F, h, w], actions [F, n, 30] normalised, `first` is the latent-frame index of the first frame.

    Attributes:
        rows: of the batch.
        video_rows, action_rows: of them that denoising of each stream computes.
    """

    def __init__(self, model: WorldModel, slots: int, eviction: str) -> None:
        rollout, transformer = model.config.rollout, model.config.transformer
        self._model, self._rollout = model, rollout
        self.video_rows, self.action_rows = (
            2 if scale > 1 else 1 for scale in (rollout.video_guidance, rollout.action_guidance)
        )
        self.rows = max(self.video_rows, self.action_rows)
        self.cache = KVCache(
            layers=transformer.num_layers,
            batch=self.rows,
            heads=transformer.num_heads,
            head_dim=transformer.head_dim,
            slots=slots,
            device=model.device,
            dtype=model.dtype,
            eviction=eviction,
        )
        self._used = model.normalizer.used(model.device)
        self._text: dict[int, TextContext] | None = None  # by rows of the batch
        self._timings: dict[tuple[str, float, int, bool], Timing] = {}

    @property
    def has_text(self) -> bool:
        """Whether an instruction was set."""
        return self._text is not None

    def set_text(self, embeddings: Tensor) -> None:
        """Set the instruction, embeddings [rows, L, text_dim]."""
        context = self._model.transformer.text_context(embeddings.to(self._model.device))
        self._text = {rows: context.rows(rows) for rows in range(1, self.rows + 1)}

    def write(self, latents: Tensor, actions: Tensor, first: int, kind: Write, sigma: float = 0.0) -> None:
        """Write a group of frames, [video | actions]: the video at noise level sigma, the actions at 0."""
        self.video(latents, sigma, first, kind, self.rows, head=False)
        self.action(actions, 0.0, first, kind, self.rows, head=False)

    def denoise_video(
        self, noise: Tensor, plan: Schedule, first: int, given: Tensor | None = None, keep: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Denoise video from noise; with `keep`, write it as predicted at the noise level `plan.kept`.

        It is computed in one row unless guided; what is kept gets the rows of the actions, its only readers, too.

        Args:
            noise: starting point.
            plan: noise levels.
            first: of the frames.
            given: [C, h, w]: what the first of the frames is; it is held at timestep 0.
            keep: whether later forwards read it.

        Returns:
            The latents at the noise level `plan.kept` and at the end of the plan.
        """
        kept_latents = None

        def clamp(x: Tensor) -> Tensor:
            return x if given is None else torch.cat([given[:, None], x[:, 1:]], dim=1)

        def velocity(x: Tensor, sigma: float, last: bool) -> Tensor:
            nonlocal kept_latents
            x, kind, rows = clamp(x), Write.TRANSIENT, self.video_rows
            if last:
                kept_latents = x
                kind, rows = (Write.PREDICTED, self.rows) if keep else (kind, rows)
            return _guide(self.video(x, sigma, first, kind, rows, given is not None), self._rollout.video_guidance)

        latents = clamp(denoise(noise, plan, velocity))
        if plan.partial:
            return kept_latents, latents
        if keep:
            self.video(latents, plan.kept, first, Write.PREDICTED, self.action_rows, head=False)
        return latents, latents

    def denoise_actions(self, noise: Tensor, plan: Schedule, first: int, given: bool = False) -> Tensor:
        """Denoise actions; they need no place in the cache, because a group rewrites them before they are read.

        Args:
            noise: starting point.
            plan: noise levels.
            first: of the frames.
            given: whether the actions of the first frame are zero, at timestep 0.
        """

        def clamp(x: Tensor) -> Tensor:
            x = torch.where(self._used, x, 0.0)
            return torch.cat([torch.zeros_like(x[:1]), x[1:]]) if given else x

        def velocity(x: Tensor, sigma: float, _last: bool) -> Tensor:
            output = self.action(clamp(x), sigma, first, Write.TRANSIENT, self.action_rows, given)
            return _guide(output, self._rollout.action_guidance)

        return clamp(denoise(noise, plan, velocity))

    def video(
        self,
        latents: Tensor,
        sigma: float,
        first: int,
        kind: Write,
        rows: int,
        given: bool = False,
        head: bool = True,
    ) -> Tensor | None:
        """One forward at noise level sigma, see `WorldTransformer.video`; `given`: 0 for the first of the frames."""
        model, batch = self._model.transformer, latents.expand(rows, *latents.shape)
        timing = self._timing(model.video_timing, sigma, latents.shape[1], given)
        return model.video(batch, timing, first, self._text[rows], self.cache, kind, head)

    def action(
        self,
        actions: Tensor,
        sigma: float,
        first: int,
        kind: Write,
        rows: int,
        given: bool = False,
        head: bool = True,
    ) -> Tensor | None:
        """Likewise for actions, see `WorldTransformer.action`."""
        model, batch = self._model.transformer, actions.expand(rows, *actions.shape)
        timing = self._timing(model.action_timing, sigma, actions.shape[0], given)
        return model.action(batch, timing, first, self._text[rows], self.cache, kind, head)

    def _timing(self, embed: Callable[[Tensor], Timing], sigma: float, frames: int, given: bool) -> Timing:
        """Embed the timesteps of a forward, once for each noise level of the schedules and number of frames."""
        key = (embed.__name__, sigma, frames, given)
        if key not in self._timings:
            timesteps = torch.full((frames,), sigma * TIMESTEP_SCALE, device=self._model.device)
            if given:
                timesteps[0] = 0.0
            self._timings[key] = embed(timesteps)
        return self._timings[key]


def _guide(velocity: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance over the rows with and without text."""
    if scale == 1:
        return velocity[0]
    conditional, unconditional = velocity
    return unconditional + scale * (conditional - unconditional)
