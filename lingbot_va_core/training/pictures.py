"""Pictures of a run: real frames above, what the model makes of them below."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lingbot_va_core.canvas import join
from lingbot_va_core.config import RolloutConfig
from lingbot_va_core.session import Session
from lingbot_va_core.streaming import StreamingDecoder
from lingbot_va_core.training.clips import TrainingEpisode
from lingbot_va_core.world_model import WorldModel

SCALE, GAP, CAPTION = 2, 2, 14  # pixels


def canvas_image(views: Sequence[np.ndarray], rollout: RolloutConfig) -> np.ndarray:
    """Join uint8 views [h, w, 3], one per camera, into the canvas [H, W, 3]."""
    parts = [torch.from_numpy(np.ascontiguousarray(view)).movedim(-1, 0) for view in views]
    return join(rollout.camera_layout, parts).movedim(0, -1).numpy()


def save_strip(path: Path, rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> None:
    """Write rows of equally large uint8 images [H, W, 3], each under its caption, as PNG, whole or not at all."""
    height, width = rows[0][1][0].shape[:2]
    height, width = height * SCALE, width * SCALE
    columns = max(len(images) for _, images in rows)
    sheet = Image.new('RGB', (columns * (width + GAP), len(rows) * (height + CAPTION + GAP)), (24, 24, 24))
    pen = ImageDraw.Draw(sheet)
    for row, (caption, images) in enumerate(rows):
        top = row * (height + CAPTION + GAP)
        pen.text((2, top + 1), caption, fill=(230, 230, 230))
        for column, image in enumerate(images):
            tile = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * (width + GAP), top + CAPTION))
    fresh = path.with_suffix('.new')
    sheet.save(fresh, format='PNG')
    fresh.replace(path)


def imagine(model: WorldModel, episode: TrainingEpisode, chunks: int) -> tuple[Tensor, Tensor, float]:
    """Predict chunk after chunk of a recorded episode, each from what was real before it.

    Returns:
        Real and imagined latents of the predicted frames [n, C, h, w], and the root mean square of the actions'
        differences from the expert's, in normalised units over the channels in use.
    """
    session = Session(model, mode='sync', seed=0)
    session.start(episode.instruction)
    session.observe(0, episode.latents[0])
    real, imagined, errors = [], [], []
    for _ in range(chunks):
        chunk = session.predict()
        span = slice(chunk.first_latent_index, chunk.first_latent_index + len(chunk.latents))
        if span.stop > len(episode.latents):
            break
        real.append(episode.latents[span])
        imagined.append(chunk.latents)
        planned = model.normalizer.normalize(torch.from_numpy(chunk.actions))
        errors.append((planned - episode.labels[span])[..., episode.used])
        for index in range(span.start, span.stop):
            session.observe(index, episode.latents[index])
            session.executed(index, model.normalizer.denormalize(episode.executed[index]))
    error = torch.cat(errors).square().mean().sqrt()
    return torch.cat(real), torch.cat(imagined), float(error)


def draw_imagined(model: WorldModel, episode: TrainingEpisode, path: Path, columns: int = 8) -> float:
    """Write a picture of recorded frames, decoded, above what the model imagined in their place.

    Returns:
        The error of the actions, see `imagine`.
    """
    frames = len(episode.latents) - 1
    chunks = -(-frames // model.config.rollout.chunk_frames)
    real, imagined, error = imagine(model, episode, chunks)
    shown = sorted({round(i) for i in np.linspace(0, len(real) - 1, columns)})
    rows = []
    for caption, latents in (('real, decoded', real), ('imagined', imagined)):
        decoder = StreamingDecoder(model.vae, model.config.rollout, device=model.device)
        decoder.decode(episode.latents[:1])
        images = decoder.decode(latents)
        rows.append((caption, [canvas_image(images[4 * i + 3], model.config.rollout) for i in shown]))
    save_strip(path, rows)
    return error
