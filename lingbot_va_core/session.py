"""The closed loop of one episode: fed with real latents and executed actions, it predicts chunks.

The order of a cycle is that of the released model: predicted entries leave the cache, the real frames of the last chunk
enter it (video, then actions, at timestep 0), then the next frames are denoised, then the actions that lead there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lingbot_va_core.cache import KVCache, Write
from lingbot_va_core.checkpoint import WorldModel
from lingbot_va_core.flow_matching import TIMESTEP_SCALE, denoise, schedule
from lingbot_va_core.transformer import TextContext, Timing


class SessionError(ValueError):
    """Input that does not continue the episode."""


@dataclass(frozen=True)
class Chunk:
    """One prediction, F executable latent frames long.

    Attributes:
        index: counts up from 0 within the episode.
        first_latent_index: latent frame that the first action belongs to.
        latents: the imagined frames, float32 [F, C, h, w] on the CPU.
        actions: float32 [F, n, 30], SI units, unused channels zero.
        observation_indices: real latent frames that entered the context since the last chunk.
        grounding_s, video_s, action_s: time spent on real inputs, video and action denoising.
    """

    index: int
    first_latent_index: int
    latents: Tensor
    actions: np.ndarray
    observation_indices: tuple[int, ...]
    grounding_s: float
    video_s: float
    action_s: float


class Session:
    """Runs one model; owns no clock and no thread. The same inputs and seed give the same chunks.

    The first chunk starts with latent frame 0, which is given: it is held at timestep 0 while the others are denoised
    and its actions are zero in normalised space, so that the chunk's executable frames are 1..K-1. With K = 1 that
    would leave none, so frame 0 then enters the cache like any real frame and the first chunk is frame 1.
    """

    def __init__(self, model: WorldModel, seed: int = 0) -> None:
        self._model, self._seed = model, seed
        self._rollout = rollout = model.config.rollout
        self._video_plan = schedule(
            rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s, rollout.video_s_axis
        )
        self._action_plan = schedule(rollout.action_steps, rollout.action_shift)
        self._video_rows, self._action_rows = (
            2 if scale > 1 else 1 for scale in (rollout.video_guidance, rollout.action_guidance)
        )
        self._batch = max(self._video_rows, self._action_rows)  # with and without text
        transformer = model.config.transformer
        self._cache = KVCache(
            layers=transformer.num_layers,
            batch=self._batch,
            heads=transformer.num_heads,
            head_dim=transformer.head_dim,
            slots=model.config.cache_slots,
            device=model.device,
            dtype=model.dtype,
            eviction=rollout.cache_eviction,
        )
        self._used = model.normalizer.used(model.device)
        self._generator = torch.Generator()
        self._text: dict[int, TextContext] | None = None  # by rows of the batch
        self._timings: dict[tuple[str, float, bool], Timing] = {}

    def start(self, instruction: str) -> None:
        """Begin a new episode; everything about the last one is forgotten."""
        self._generator.manual_seed(self._seed)
        self._cache.clear()
        self._latents: dict[int, Tensor] = {}
        self._actions: dict[int, Tensor] = {}
        self._grounded = 0  # real frames in the cache
        self._end = 0  # one past the last predicted frame
        self._chunks = 0
        self.set_instruction(instruction)

    @torch.inference_mode()
    def set_instruction(self, text: str) -> None:
        """Change the instruction; it holds from the next chunk on."""
        prompts = [text, ''][: self._batch]
        rows = torch.stack([self._model.text.encode(prompt) for prompt in prompts])
        self.set_text_embeddings(rows)

    @torch.inference_mode()
    def set_text_embeddings(self, embeddings: Tensor) -> None:
        """Set the instruction as embeddings [1, L, text_dim]; [2, L, text_dim], the second empty, with guidance."""
        if embeddings.shape[0] != self._batch:
            raise SessionError(f'got embeddings of {embeddings.shape[0]} texts; this model needs {self._batch}')
        context = self._model.transformer.text_context(embeddings.to(self._model.device))
        self._text = {rows: context.rows(rows) for rows in range(1, self._batch + 1)}

    def observe(self, index: int, latent: Tensor | np.ndarray) -> None:
        """Take the real latent frame `index`, [C, h, w]. A frame that is already known is ignored.

        Raises:
            SessionError: a frame is missing before it, it lies past the last chunk, or its shape or values are wrong.
        """
        self._require_started()
        latent = self._own(latent)
        self._check('latent frame', index, latent, self._model.config.latent_shape)
        expected, last = self._grounded + len(self._latents), max(self._end - 1, 0)
        if self._check_order('latent frame', index, expected, last):
            self._latents[index] = latent

    def executed(self, index: int, actions: Tensor | np.ndarray) -> None:
        """Take the actions executed in latent frame `index` >= 1, [n, 30] in SI units. Known ones are ignored.

        Raises:
            SessionError: as `observe`.
        """
        self._require_started()
        actions = self._own(actions)
        self._check('executed actions', index, actions, (self._rollout.actions_per_latent, self._used.numel()))
        expected, last = max(self._grounded, 1) + len(self._actions), self._end - 1
        if self._check_order('executed actions', index, expected, last):
            self._actions[index] = self._model.normalizer.normalize(actions)

    @property
    def ready(self) -> bool:
        """Whether everything that the next chunk follows from is in."""
        if self._text is None:
            return False
        known, acted = self._grounded + len(self._latents), max(self._grounded, 1) + len(self._actions)
        return known >= max(self._end, 1) and acted >= self._end

    @torch.inference_mode()
    def predict(self, video_noise: Tensor | None = None, action_noise: Tensor | None = None) -> Chunk:
        """Predict the next chunk.

        Args:
            video_noise: [C, K, h, w]; drawn if not given.
            action_noise: [K, n, 30]; drawn if not given.

        Raises:
            SessionError: real latents or executed actions of the last chunk are missing.
        """
        self._require_ready()
        rollout, frames = self._rollout, self._rollout.chunk_frames
        started = time.perf_counter()
        observed = tuple(i for i in self._latents if i or not self._chunks)  # frame 0 stays for the first clean write
        clamped = self._latents[0] if self._end == 0 and frames > 1 else None
        if clamped is None:
            self._ground(max(self._end, 1))
        first = self._grounded
        channels, rows, columns = self._model.config.latent_shape
        video_noise = self._noise(video_noise, (channels, frames, rows, columns))
        action_noise = self._noise(action_noise, (frames, rollout.actions_per_latent, self._used.numel()))

        grounded = time.perf_counter()
        latents = self._denoise_video(video_noise, first, clamped)
        imagined = time.perf_counter()
        actions = self._denoise_actions(action_noise, first, clamped is not None)
        given = 0 if clamped is None else 1
        result = Chunk(
            index=self._chunks,
            first_latent_index=first + given,
            latents=latents[:, given:].transpose(0, 1).cpu().contiguous(),
            actions=self._model.normalizer.denormalize(actions[given:]).cpu().numpy(),
            observation_indices=observed,
            grounding_s=grounded - started,
            video_s=imagined - grounded,
            action_s=time.perf_counter() - imagined,
        )
        self._end = first + frames
        self._chunks += 1
        return result

    def _ground(self, end: int) -> None:
        """Replace what was predicted by the real frames up to `end`."""
        self._cache.drop_predicted()
        first = self._grounded
        still = torch.zeros(self._rollout.actions_per_latent, self._used.numel(), device=self._model.device)
        latents = torch.stack([self._latents.pop(i) for i in range(first, end)], dim=1)
        actions = torch.stack([self._actions.pop(i) if i else still for i in range(first, end)])
        self._video(latents, 0.0, False, first, Write.CLEAN, self._batch, head=False)
        self._action(actions, 0.0, False, first, Write.CLEAN, self._batch, head=False)
        self._grounded = end

    def _denoise_video(self, noise: Tensor, first: int, clamped: Tensor | None) -> Tensor:
        """Denoise, in one row unless guided; what is kept gets the rows of the actions, its only readers, too."""

        def clamp(x: Tensor) -> Tensor:
            return x if clamped is None else torch.cat([clamped[:, None], x[:, 1:]], dim=1)

        def velocity(x: Tensor, sigma: float, kept: bool) -> Tensor:
            kind, rows = (Write.PREDICTED, self._batch) if kept else (Write.TRANSIENT, self._video_rows)
            output = self._video(clamp(x), sigma, clamped is not None, first, kind, rows)
            return self._guide(output, self._rollout.video_guidance)

        latents = clamp(denoise(noise, self._video_plan, velocity))
        if not self._video_plan.partial:
            self._video(latents, 0.0, False, first, Write.PREDICTED, self._action_rows, head=False)
        return latents

    def _denoise_actions(self, noise: Tensor, first: int, clamped: bool) -> Tensor:
        """Denoise; the actions need no place in the cache, because executed ones replace them before they are read."""

        def clamp(x: Tensor) -> Tensor:
            x = torch.where(self._used, x, 0.0)
            return torch.cat([torch.zeros_like(x[:1]), x[1:]]) if clamped else x

        def velocity(x: Tensor, sigma: float, kept: bool) -> Tensor:
            output = self._action(clamp(x), sigma, clamped, first, Write.TRANSIENT, self._action_rows)
            return self._guide(output, self._rollout.action_guidance)

        return clamp(denoise(noise, self._action_plan, velocity))

    def _video(
        self, latents: Tensor, sigma: float, clamped: bool, first: int, kind: Write, rows: int, head: bool = True
    ) -> Tensor | None:
        model, batch = self._model.transformer, latents.expand(rows, *latents.shape)
        timing = self._timing(model.video_timing, sigma, clamped)
        return model.video(batch, timing, first, self._text[rows], self._cache, kind, head)

    def _action(
        self, actions: Tensor, sigma: float, clamped: bool, first: int, kind: Write, rows: int, head: bool = True
    ) -> Tensor | None:
        model, batch = self._model.transformer, actions.expand(rows, *actions.shape)
        timing = self._timing(model.action_timing, sigma, clamped)
        return model.action(batch, timing, first, self._text[rows], self._cache, kind, head)

    def _timing(self, embed: Callable[[Tensor], Timing], sigma: float, clamped: bool) -> Timing:
        """Embed the chunk's timesteps, once for each noise level of the schedules."""
        key = (embed.__name__, sigma, clamped)
        if key not in self._timings:
            timesteps = torch.full((self._rollout.chunk_frames,), sigma * TIMESTEP_SCALE, device=self._model.device)
            if clamped:
                timesteps[0] = 0.0
            self._timings[key] = embed(timesteps)
        return self._timings[key]

    def _guide(self, velocity: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return velocity[0]
        conditional, unconditional = velocity
        return unconditional + scale * (conditional - unconditional)

    def _noise(self, given: Tensor | None, shape: tuple[int, ...]) -> Tensor:
        if given is None:
            given = torch.randn(shape, generator=self._generator)
        elif given.shape != shape:
            raise SessionError(f'noise has shape {list(given.shape)}; it must be {list(shape)}')
        return given.to(self._model.device)

    def _require_started(self) -> None:
        if self._text is None:
            raise SessionError('no episode is running; call start first')

    def _require_ready(self) -> None:
        self._require_started()
        if not self.ready:
            known, acted = self._grounded + len(self._latents), max(self._grounded, 1) + len(self._actions)
            raise SessionError(
                f'chunk {self._chunks} needs real latents and executed actions before frame {max(self._end, 1)}, but '
                f'latents are known before {known} and actions before {acted}; wait until ready'
            )

    def _own(self, values: Tensor | np.ndarray) -> Tensor:
        """Copy what the caller may go on to change."""
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values.astype(np.float32))
        return values.to(self._model.device, torch.float32, copy=True)

    def _check(self, what: str, index: int, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(tensor.shape) != tuple(shape):
            raise SessionError(f'{what} {index}: shape {list(tensor.shape)}; it must be {list(shape)}')
        if not torch.isfinite(tensor).all():
            raise SessionError(f'{what} {index}: a value is not finite')

    def _check_order(self, what: str, index: int, expected: int, last: int) -> bool:
        """Return False for a duplicate."""
        if index > expected:
            raise SessionError(f'{what} {index}: {expected} is still missing; send them in order')
        if index == expected and index > last:
            raise SessionError(f'{what} {index}: the last predicted frame is {last}; predict the next chunk first')
        return index == expected
