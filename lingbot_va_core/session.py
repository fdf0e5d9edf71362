"""The closed loop of one episode: fed with real latents and executed actions, it predicts chunks.

The order of a cycle: predicted entries leave the cache; real frames enter it (video, then actions, at timestep 0); what
has not been observed yet is stood in for; then the next frames are denoised, then the actions that lead there.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lingbot_va_core.cache import Write
from lingbot_va_core.context import Context
from lingbot_va_core.flow_matching import schedule
from lingbot_va_core.forward_dynamics import forward_dynamics, forward_dynamics_schedule
from lingbot_va_core.history import History, SessionError
from lingbot_va_core.world_model import WorldModel

MODES = ('sync', 'naive', 'fdm')
DYNAMICS_STREAM = 1 << 32  # added to the seed, so that noise of forward dynamics leaves that of the chunks as it is


@dataclass(frozen=True)
class Chunk:
    """One prediction, F executable latent frames long.

    Attributes:
        index: counts up from 0 within the episode.
        first_latent_index: latent frame that the first action belongs to.
        latents: the imagined frames, float32 [F, C, h, w] on the CPU.
        actions: float32 [F, n, 30], SI units, unused channels zero.
        observation_indices: real latent frames that entered the context since the last chunk.
        imagined_indices: latent frames of the context that were stood in for.
        executed_indices: those of them whose executed actions were known, so that only the video was imagined.
        grounding_s: time spent on the context: real inputs and what stands in for missing ones.
        video_s, action_s: time spent on video and action denoising.
    """

    index: int
    first_latent_index: int
    latents: Tensor
    actions: np.ndarray
    observation_indices: tuple[int, ...]
    imagined_indices: tuple[int, ...]
    executed_indices: tuple[int, ...]
    grounding_s: float
    video_s: float
    action_s: float


class Session:
    """Runs one model; owns no clock and no thread. The same inputs and seed give the same chunks, to the bit.

    Modes:
        sync: a chunk follows from what is real: it can be predicted once the whole last one was executed and observed.
        naive: it can be predicted while the last one is being executed. What of that is not real yet is stood in for by
            the imagined video, at the noise level it was denoised to.
        fdm: likewise, but the video is predicted anew by forward dynamics, from the newest real frame and the actions.

    Executed actions stand with imagined video as soon as they are reported, planned ones until then. Stand-ins leave
    the context at the next prediction, which writes what is real by then in their place.

    Real frames enter the context in groups of at most K, the longest that models are trained with, and the stand-ins
    as one group. Of real frames, the last `attn_window` // 2 - 1 chunks stay, as whole latent frames: how many does not
    depend on the mode, nor on when they came; only which of them entered together does. Stand-ins come on top, in
    memory of their own, so that none of them evicts what is real. The exception is sync with `cache_eviction`
    'released', which evicts as the released model does: the oldest tokens, so that actions may outlast their video.

    The first chunk starts with latent frame 0, which is given: it is held at timestep 0 while the others are denoised
    and its actions are zero in normalised space, so that the chunk's executable frames are 1..K-1. With K = 1 that
    would leave none, so frame 0 then enters the cache like any real frame and the first chunk is frame 1.
    """

    def __init__(self, model: WorldModel, mode: str = 'sync', seed: int = 0) -> None:
        if mode not in MODES:
            raise SessionError(f"mode is '{mode}'; choose one of {', '.join(MODES)}")
        self._model, self._seed, self.mode = model, seed, mode
        self._rollout = rollout = model.config.rollout
        self._video_plan = schedule(
            rollout.video_steps, rollout.video_shift, rollout.video_exec_step, rollout.video_s, rollout.video_s_axis
        )
        self._action_plan = schedule(rollout.action_steps, rollout.action_shift)
        self._dynamics_plan = forward_dynamics_schedule(rollout, self._video_plan.kept)
        slots, chunk = model.config.cache_slots, model.config.chunk_tokens
        self._history_tokens = slots - chunk
        eviction = rollout.cache_eviction if mode == 'sync' else 'frames'
        self._context = Context(model, slots if mode == 'sync' else slots + chunk, eviction)
        self._video_shape = (model.config.latent_shape[0], rollout.chunk_frames, *model.config.latent_shape[1:])
        self._action_shape = (rollout.chunk_frames, rollout.actions_per_latent, model.config.transformer.action_dim)
        self._history = History(
            model.config.latent_shape, self._action_shape[1:], model.normalizer.normalize, model.device
        )
        self._generator, self._dynamics_generator = torch.Generator(), torch.Generator()

    def start(self, instruction: str) -> None:
        """Begin a new episode; everything about the last one is forgotten."""
        self._generator.manual_seed(self._seed)
        self._dynamics_generator.manual_seed(self._seed + DYNAMICS_STREAM)
        self._context.cache.clear()
        self._history.clear()
        self._end = 0  # one past the last predicted frame
        self._chunks = 0
        self._imagined: Tensor | None = None  # video of the last chunk [C, K, h, w] at the noise level that was kept
        self._planned: Tensor | None = None  # its actions [K, n, 30], normalised
        self.set_instruction(instruction)

    @torch.inference_mode()
    def set_instruction(self, text: str) -> None:
        """Change the instruction; it holds from the next chunk on."""
        prompts = [text, ''][: self._context.rows]
        self.set_text_embeddings(torch.stack([self._model.text.encode(prompt) for prompt in prompts]))

    @torch.inference_mode()
    def set_text_embeddings(self, embeddings: Tensor) -> None:
        """Set the instruction as embeddings [1, L, text_dim]; [2, L, text_dim], the second empty, with guidance."""
        rows = self._context.rows
        if embeddings.shape[0] != rows:
            raise SessionError(f'got embeddings of {embeddings.shape[0]} texts; this model needs {rows}')
        self._context.set_text(embeddings)

    def observe(self, index: int, latent: Tensor | np.ndarray) -> None:
        """Take the real latent frame `index`, [C, h, w]: late, twice (the first counts) or before earlier ones.

        Raises:
            SessionError: it lies past the last chunk, or its shape or values are wrong.
        """
        self._require_started()
        self._history.observe(index, latent, max(self._end, 1))

    def executed(self, index: int, actions: Tensor | np.ndarray) -> None:
        """Take the actions executed in latent frame `index` >= 1, [n, 30] in SI units; otherwise as `observe`."""
        self._require_started()
        self._history.executed(index, actions, max(self._end, 1))

    @property
    def ready(self) -> bool:
        """Whether the next chunk can be predicted in this mode.

        Asynchronous modes need everything before the last chunk to be real, frame 0 always.
        """
        return self._context.has_text and self._history.real >= self._needed

    @property
    def complete(self) -> bool:
        """Whether everything up to the end of the last chunk is real, so that the next needs no stand-ins."""
        return self._context.has_text and self._history.real >= max(self._end, 1)

    @torch.inference_mode()
    def predict(
        self,
        video_noise: Tensor | None = None,
        action_noise: Tensor | None = None,
        dynamics_noise: Tensor | None = None,
    ) -> Chunk:
        """Predict the next chunk.

        Args:
            video_noise: [C, K, h, w]; drawn if not given.
            action_noise: [K, n, 30]; drawn if not given.
            dynamics_noise: [C, K, h, w], for the forward dynamics of the last chunk; drawn if not given.

        Raises:
            SessionError: it is not `ready`, or noise has a wrong shape.
        """
        self._require_ready()
        video_noise = self._noise(video_noise, self._video_shape, self._generator)
        action_noise = self._noise(action_noise, self._action_shape, self._generator)
        if self.mode == 'fdm' and self._chunks:
            dynamics_noise = self._noise(dynamics_noise, self._video_shape, self._dynamics_generator)
        started = time.perf_counter()
        given, observed = None, (0,)
        if self._end == 0 and self._rollout.chunk_frames > 1:
            given = self._history.latent(0)
        else:
            before = max(self._history.grounded, min(self._chunks, 1))  # frame 0 was observed by the first chunk
            self._ground()
            observed = tuple(range(before, self._history.grounded))
        imagined = range(self._history.grounded, self._end)
        executed = tuple(index for index in imagined if self._history.actions(index) is not None)
        if imagined:
            self._stand_in(imagined, dynamics_noise)

        grounded = time.perf_counter()
        first = 0 if given is not None else max(self._end, 1)
        self._imagined, latents = self._context.denoise_video(video_noise, self._video_plan, first, given)
        video_done = time.perf_counter()
        self._planned = self._context.denoise_actions(action_noise, self._action_plan, first, given is not None)
        skip = 0 if given is None else 1
        chunk = Chunk(
            index=self._chunks,
            first_latent_index=first + skip,
            latents=latents[:, skip:].transpose(0, 1).cpu().contiguous(),
            actions=self._model.normalizer.denormalize(self._planned[skip:]).cpu().numpy(),
            observation_indices=observed,
            imagined_indices=tuple(imagined),
            executed_indices=executed,
            grounding_s=grounded - started,
            video_s=video_done - grounded,
            action_s=time.perf_counter() - video_done,
        )
        self._end = first + self._rollout.chunk_frames
        self._chunks += 1
        return chunk

    @property
    def _needed(self) -> int:
        """Frames before this must be real for the next chunk."""
        behind = 0 if self.mode == 'sync' else self._rollout.chunk_frames
        return max(self._end - behind, 1)

    def _ground(self) -> None:
        """Drop what was predicted, and write the frames that have become real."""
        context, history = self._context, self._history
        context.cache.drop_predicted()
        real = history.real
        while history.grounded < real:
            first, end = history.grounded, min(history.grounded + self._rollout.chunk_frames, real)
            context.write(*history.group(end), first, Write.CLEAN)
            history.ground(end)
            if context.cache.eviction == 'frames':  # otherwise the chunk itself evicts, as in the released model
                context.cache.trim(self._history_tokens)

    def _stand_in(self, frames: range, noise: Tensor | None) -> None:
        """Write what stands in for frames of the last chunk that are not real yet; `noise` for forward dynamics."""
        own = slice(self._rollout.chunk_frames - len(frames), None)  # they are the end of the chunk
        actions = torch.stack(
            [
                planned if (known := self._history.actions(index)) is None else known
                for index, planned in zip(frames, self._planned[own], strict=True)
            ]
        )
        latents, sigma = self._imagined[:, own], self._video_plan.kept
        if self.mode == 'fdm':
            plan = self._dynamics_plan
            latents, sigma = forward_dynamics(self._context, actions, noise[:, own], plan, frames[0]), plan.kept
        self._context.write(latents, actions, frames[0], Write.PREDICTED, sigma)

    def _noise(self, given: Tensor | None, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if given is None:
            given = torch.randn(shape, generator=generator)
        elif given.shape != shape:
            raise SessionError(f'noise has shape {list(given.shape)}; it must be {list(shape)}')
        return given.to(self._model.device)

    def _require_started(self) -> None:
        if not self._context.has_text:
            raise SessionError('no episode is running; call start first')

    def _require_ready(self) -> None:
        self._require_started()
        if not self.ready:
            raise SessionError(
                f'chunk {self._chunks} needs real latents and executed actions before frame {self._needed}, but '
                f'latents are known before {self._history.observed} and actions before {self._history.acted}; wait '
                'until ready'
            )
