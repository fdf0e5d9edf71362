"""Golden rollouts: what the released code predicted in a closed loop, replayed with ours and compared.

A folder holds `config.json` (transformer, vae, rollout, norm_stat, cycles), the weights `transformer.safetensors` and
`vae.safetensors`, and `rollout.safetensors` with, for cycle c,

- `cycle{c}.noise.video` [1, C, K, h, w] and `cycle{c}.noise.action` [1, 30, K, n, 1]: the starting noise;
- `cycle0.obs0.<camera>` uint8 [H, W, 3] and `cycle0.init_latent` [1, C, 1, h, w]: the first images and their latent;
- `cycle{c}.out.latents` [1, C, K, h, w] and `cycle{c}.out.actions` [used, K, n]: what was predicted, in SI units;
- `cycle{c}.keyframes.<camera>` uint8 [frames, H, W, 3]: the real images after it, and `cycle{c}.frame_st_id_after`;
- `prompt_embeds`, `negative_prompt_embeds` [1, up to 512, text_dim]: rows that are left out are zero.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lingbot_va_core.clock import VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.config import ConfigError
from lingbot_va_core.released import ReleasedModel, released_model
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingEncoder
from lingbot_va_core.weights import CheckpointError, load_weights
from lingbot_va_core.world_model import WorldModel, skeleton

TEXT_ROWS = 512
PARTS = ('transformer', 'vae', 'rollout', 'norm_stat', 'cycles')


class GoldenError(ValueError):
    """A folder that is not a golden rollout."""


@dataclass(frozen=True)
class CycleErrors:
    """Largest error of one cycle, relative to the largest magnitude; infinite where ours is not finite."""

    latents: float
    actions: float


@dataclass(frozen=True)
class ReplayErrors:
    """Errors of a whole replay; cycles after one that is not finite are left out."""

    init_latent: float
    cycles: tuple[CycleErrors, ...]

    @property
    def largest(self) -> float:
        """The largest of all."""
        return max(self.init_latent, *(error for cycle in self.cycles for error in (cycle.latents, cycle.actions)))


@dataclass(frozen=True)
class GoldenRollout:
    """A recorded rollout with the model that it was recorded from.

    Attributes:
        tensors: contents of rollout.safetensors, complete and of the shapes above.
        cycles: number of cycles.
    """

    released: ReleasedModel
    model: WorldModel
    tensors: dict[str, Tensor]
    cycles: int


class RecordedText:
    """Gives the recorded embeddings: those of the empty prompt for '', those of the prompt for any other text."""

    def __init__(self, prompt: Tensor, negative: Tensor | None) -> None:
        self.length, self.dim = TEXT_ROWS, prompt.shape[-1]
        for rows in (prompt, prompt if negative is None else negative):
            if rows.shape[1] > TEXT_ROWS:
                raise GoldenError(f'a prompt has {rows.shape[1]} rows of embeddings; there are {TEXT_ROWS} at most')
        self._prompt, self._negative = prompt, negative

    def encode(self, instruction: str) -> Tensor:
        """See `text.TextEncoder.encode`."""
        rows = (self._prompt if instruction else self._negative)[0].float()
        return F.pad(rows, (0, 0, 0, self.length - rows.shape[0]))


def load_golden(
    folder: Path | str, device: torch.device | str = 'cpu', dtype: torch.dtype = torch.float32
) -> GoldenRollout:
    """Load a golden folder; `dtype` is the transformer's.

    Raises:
        GoldenError: a file, a field, a weight or a tensor is missing, unreadable or of a wrong shape.
    """
    folder, device = Path(folder), torch.device(device)
    document = _read_json(folder)
    try:
        released = released_model(folder.name, *(document[part] for part in PARTS[:4]))
        tensors = _read_rollout(folder / 'rollout.safetensors', released, document['cycles'])
        model = skeleton(folder.name, released.config, released.normalizer, device, dtype)
        load_weights(model.transformer, folder / 'transformer.safetensors', device, dtype)
        load_weights(model.vae, folder / 'vae.safetensors', device, torch.float32)
    except (ConfigError, CheckpointError) as error:
        raise GoldenError(f'{folder}: {error}') from error
    model.text = RecordedText(tensors['prompt_embeds'], tensors.get('negative_prompt_embeds'))
    return GoldenRollout(released, model, tensors, document['cycles'])


def replay(golden: GoldenRollout) -> ReplayErrors:
    """Run the rollout again from images, noise and text alone; our own actions are what is fed back."""
    tensors, rollout = golden.tensors, golden.model.config.rollout
    session = Session(golden.model)
    session.start('the recorded prompt')
    encoder = StreamingEncoder(golden.model.vae, rollout, len(golden.released.cameras), golden.model.device)
    real = encoder.encode(_images(golden, 'cycle0.obs0', 1))
    init = real
    session.observe(0, init[0])
    init_error = relative_error(init, tensors['cycle0.init_latent'][0].transpose(0, 1))
    errors = []
    for cycle in range(golden.cycles):
        first = cycle * rollout.chunk_frames
        latents, actions = _predict(golden, session, cycle, init)
        used = torch.from_numpy(actions)[..., list(golden.released.channels)]
        recorded = tensors[f'cycle{cycle}.out.actions'].permute(1, 2, 0)
        errors.append(
            CycleErrors(
                latents=relative_error(latents, tensors[f'cycle{cycle}.out.latents'][0].transpose(0, 1)),
                actions=relative_error(used, recorded),
            )
        )
        if cycle + 1 == golden.cycles or not (latents.isfinite().all() and used.isfinite().all()):
            break
        count = _key_frames(cycle, rollout.chunk_frames)
        real = encoder.encode(_images(golden, f'cycle{cycle}.keyframes', count)) if count else real[:0]
        for index, latent in enumerate(real, start=max(first, 1)):
            session.observe(index, latent)
            session.executed(index, actions[index - first])
    return ReplayErrors(init_error, tuple(errors))


def relative_error(ours: Tensor, recorded: Tensor) -> float:
    """Return max |ours - recorded| / max |recorded|, infinite where a value of ours is not finite."""
    if not ours.isfinite().all():
        return float('inf')
    ours, recorded = ours.double(), recorded.double()
    return ((ours - recorded).abs().max() / recorded.abs().max().clamp_min(torch.finfo(torch.float32).tiny)).item()


def _predict(golden: GoldenRollout, session: Session, cycle: int, init: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return latents [K, C, h, w] and actions [K, n, 30] of a cycle, in cycle 0 with the given frame 0."""
    rollout = golden.model.config.rollout
    given = init if cycle == 0 else init[:0]
    still = torch.zeros(len(given), rollout.actions_per_latent, golden.model.config.transformer.action_dim)
    still = golden.model.normalizer.denormalize(still)
    if len(given) == rollout.chunk_frames:  # K = 1: the first chunk is all given
        return given, still.numpy()
    chunk = session.predict(
        golden.tensors[f'cycle{cycle}.noise.video'][0].float(),
        golden.tensors[f'cycle{cycle}.noise.action'][0, ..., 0].permute(1, 2, 0).float(),
    )
    return torch.cat([given, chunk.latents]), torch.cat([still, torch.from_numpy(chunk.actions)]).numpy()


def _images(golden: GoldenRollout, name: str, count: int) -> list[list[np.ndarray]]:
    """Return `count` frames of uint8 images, `result[time][camera]`."""
    cameras = [golden.tensors[f'{name}.{camera}'].numpy() for camera in golden.released.cameras]
    return [[frames.reshape(count, *frames.shape[-3:])[time] for frames in cameras] for time in range(count)]


def _key_frames(cycle: int, chunk_frames: int) -> int:
    """Video frames that a cycle's chunk takes; frame 0 of the first one is the observation."""
    return VIDEO_FRAMES_PER_LATENT * (chunk_frames - (1 if cycle == 0 else 0))


def _read_json(folder: Path) -> dict:
    path = folder / 'config.json'
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise GoldenError(f'{path} cannot be read: {error.strerror}; give a folder with a golden rollout') from error
    except ValueError as error:
        raise GoldenError(f'{path} is not JSON: {error}') from error
    missing = [part for part in PARTS if not isinstance(document, dict) or part not in document]
    if missing:
        raise GoldenError(f'{path} lacks {", ".join(missing)}; it must be a mapping with {", ".join(PARTS)}')
    cycles = document['cycles']
    if not isinstance(cycles, int) or isinstance(cycles, bool) or cycles < 1:
        raise GoldenError(f'{path}: cycles is {cycles!r}; it must be a number above 0')
    return document


def _read_rollout(path: Path, released: ReleasedModel, cycles: int) -> dict[str, Tensor]:
    """Read rollout.safetensors and check that what the replay needs is there."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise GoldenError(f'{path} cannot be read as safetensors: {error}') from error
    expected = _expected_shapes(released, cycles)
    missing = [name for name in expected if name not in tensors]
    if missing:
        more = f' and {len(missing) - 8} more' if len(missing) > 8 else ''
        raise GoldenError(f'{path} lacks {", ".join(missing[:8])}{more}')
    wrong = [
        f'{name} is {list(tensors[name].shape)} and must be {["any" if n is None else n for n in shape]}'
        for name, shape in expected.items()
        if len(tensors[name].shape) != len(shape)
        or any(wanted not in (None, size) for size, wanted in zip(tensors[name].shape, shape, strict=True))
    ]
    if wrong:
        raise GoldenError(f'{path}: {"; ".join(wrong)}')
    for name in expected:
        image = '.obs0.' in name or '.keyframes.' in name
        if image != (tensors[name].dtype == torch.uint8):
            raise GoldenError(f'{path}: {name} is {tensors[name].dtype}; images, and only these, must be uint8')
        if not tensors[name].isfinite().all():
            raise GoldenError(f'{path}: {name} has a value that is not finite')
    for cycle in range(cycles):
        after = tensors[f'cycle{cycle}.frame_st_id_after'].item()
        wanted = (cycle + 1) * released.config.rollout.chunk_frames
        if after != wanted:
            raise GoldenError(f'{path}: cycle{cycle}.frame_st_id_after is {after}; whole chunks lead to {wanted}')
    return tensors


def _expected_shapes(released: ReleasedModel, cycles: int) -> dict[str, tuple[int | None, ...]]:
    """Name and shape of each tensor that the replay needs; None is any size."""
    config, cameras = released.config, released.cameras
    frames, per_frame = config.rollout.chunk_frames, config.rollout.actions_per_latent
    channels, rows, columns = config.latent_shape
    shapes: dict[str, tuple[int | None, ...]] = {'cycle0.init_latent': (1, channels, 1, rows, columns)}
    shapes |= {f'cycle0.obs0.{camera}': (None, None, 3) for camera in cameras}
    for cycle in range(cycles):
        shapes[f'cycle{cycle}.noise.video'] = (1, channels, frames, rows, columns)
        shapes[f'cycle{cycle}.noise.action'] = (1, config.transformer.action_dim, frames, per_frame, 1)
        shapes[f'cycle{cycle}.out.latents'] = (1, channels, frames, rows, columns)
        shapes[f'cycle{cycle}.out.actions'] = (len(released.channels), frames, per_frame)
        shapes[f'cycle{cycle}.frame_st_id_after'] = ()
        count = _key_frames(cycle, frames)
        if count and cycle + 1 < cycles:  # nothing follows from those of the last cycle
            shapes |= {f'cycle{cycle}.keyframes.{camera}': (count, None, None, 3) for camera in cameras}
    shapes['prompt_embeds'] = (1, None, config.transformer.text_dim)
    if max(config.rollout.video_guidance, config.rollout.action_guidance) > 1:
        shapes['negative_prompt_embeds'] = (1, None, config.transformer.text_dim)
    return shapes
