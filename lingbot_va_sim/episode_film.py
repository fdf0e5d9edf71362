"""Films of evaluated episodes: what the first camera saw, what the model imagined beside it, all in one grid."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lingbot_va_core.clock import NANOSECONDS, VIDEO_FRAMES_PER_LATENT
from lingbot_va_core.datasets.layout import View
from lingbot_va_core.datasets.video import VideoWriter
from lingbot_va_core.streaming import StreamingDecoder, StreamingEncoder
from lingbot_va_core.virtual_time import ExecutedChunk
from lingbot_va_core.world_model import WorldModel

WIDTH, CAPTION, GAP = 144, 18, 4  # of one picture and below it, pixels
COLUMNS = 3
BACKGROUND, TEXT, SOLVED, FAILED = (18, 20, 24), (225, 225, 225), (120, 210, 140), (235, 110, 90)
TAIL_S = 1.0
CRF = 28


@dataclass(frozen=True)
class Film:
    """Small pictures of one episode, uint8 RGB, each with the instant of virtual time from which it is shown."""

    real: list[tuple[int, np.ndarray]]
    imagined: list[tuple[int, np.ndarray]]


@dataclass(frozen=True)
class Shown:
    """An episode in the grid: its film, how long it took, whether it succeeded, and what to write below."""

    film: Film
    duration_s: float
    success: bool
    caption: str


def small(image: np.ndarray) -> np.ndarray:
    """Shrink a uint8 RGB image to the width of a picture, both sides even."""
    height = round(WIDTH * image.shape[0] / image.shape[1] / 2) * 2
    return np.asarray(Image.fromarray(image).resize((WIDTH, height), Image.Resampling.BILINEAR))


def imagined(
    model: WorldModel, first: Sequence[np.ndarray], chunks: Sequence[ExecutedChunk]
) -> list[tuple[int, np.ndarray]]:
    """Decode the first camera of what was imagined for each executed chunk; `first` are the images of frame 0."""
    rollout, device = model.config.rollout, model.device
    encoder = StreamingEncoder(model.vae, rollout, len(first), device)
    decoder = StreamingDecoder(model.vae, rollout, device=device)
    decoder.decode(encoder.encode([first]))
    pictures = []
    for chunk in chunks:
        frames = len(chunk.chunk.latents) * VIDEO_FRAMES_PER_LATENT
        for number, views in enumerate(decoder.decode(chunk.chunk.latents), start=1):
            at = chunk.start_ns + (chunk.end_ns - chunk.start_ns) * number // frames
            pictures.append((at, small(views[0])))
    return pictures


def write_grid(episodes: Sequence[Shown], path: Path, period_ns: int) -> None:
    """Write the episodes side by side as MP4 in virtual time, whole or not at all; each stays at its end.

    Args:
        episodes: at least one, of cameras of one shape.
        path: of the film.
        period_ns: of its frames.
    """
    height = episodes[0].film.real[0][1].shape[0]
    columns = min(COLUMNS, len(episodes))
    tile = (2 * WIDTH + GAP, height + CAPTION + GAP)
    size = (columns * tile[0], ceil(len(episodes) / columns) * tile[1])
    longest_s = max(episode.duration_s for episode in episodes) + TAIL_S
    temporary = path.with_name(f'.{path.name}.tmp')
    writer = VideoWriter(temporary, View('grid', *size), period_ns, CRF)
    try:
        captions = [(_caption(episode, False), _caption(episode, True)) for episode in episodes]
        for number in range(round(longest_s * NANOSECONDS / period_ns)):
            canvas = np.full((size[1], size[0], 3), BACKGROUND, np.uint8)
            for i, (episode, (running, over)) in enumerate(zip(episodes, captions, strict=True)):
                x, y = i % columns * tile[0], i // columns * tile[1]
                for column, pictures in enumerate((episode.film.real, episode.film.imagined)):
                    picture = _at(pictures, number * period_ns)
                    if picture is not None:
                        left = x + column * WIDTH
                        canvas[y : y + len(picture), left : left + WIDTH] = picture
                ended = number * period_ns >= episode.duration_s * NANOSECONDS
                canvas[y + height : y + height + CAPTION, x : x + 2 * WIDTH] = over if ended else running
            writer.add(canvas)
        writer.close()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _at(pictures: list[tuple[int, np.ndarray]], now_ns: int) -> np.ndarray | None:
    """The newest picture at an instant, None before the first."""
    after = bisect_right([at for at, _ in pictures], now_ns)
    return pictures[after - 1][1] if after else None


def _caption(episode: Shown, ended: bool) -> np.ndarray:
    picture = Image.new('RGB', (2 * WIDTH, CAPTION), BACKGROUND)
    colour = (SOLVED if episode.success else FAILED) if ended else TEXT
    ImageDraw.Draw(picture).text((4, 3), episode.caption, colour, ImageFont.load_default(11))
    return np.asarray(picture)
