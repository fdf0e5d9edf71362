"""A picture of a data set: some of its episodes, one in each row, from the first frame to the last."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lingbot_va_core.datasets.reader import Dataset, Episode

ROWS, COLUMNS = 12, 8
TILE_WIDTH, CAPTION_WIDTH, GAP = 144, 120, 2
BACKGROUND, TEXT, FAINT, MISTAKE = (18, 20, 24), (240, 240, 240), (160, 165, 175), (235, 190, 90)


def contact_sheet(dataset: Dataset) -> Image.Image:
    """Draw up to 12 episodes, evenly chosen, as the first camera sees them."""
    chosen = sorted(set(np.linspace(0, len(dataset) - 1, min(ROWS, len(dataset))).round().astype(int).tolist()))
    view = dataset.spec.cameras[0]
    tile = (TILE_WIDTH, TILE_WIDTH * view.height // view.width)
    size = (CAPTION_WIDTH + COLUMNS * (tile[0] + GAP), len(chosen) * (tile[1] + GAP))
    sheet = Image.new('RGB', size, BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for row, index in enumerate(chosen):
        episode, top = dataset[index], row * (tile[1] + GAP)
        _caption(pen, episode, top)
        wanted = np.linspace(0, episode.frames - 1, COLUMNS).round().astype(int).tolist()
        shown = {frame: image for frame, image in enumerate(episode.video(view.name)) if frame in wanted}
        for column, frame in enumerate(wanted):
            picture = Image.fromarray(shown[frame]).resize(tile, Image.Resampling.LANCZOS)
            sheet.paste(picture, (CAPTION_WIDTH + column * (tile[0] + GAP), top))
    return sheet


def write_contact_sheet(dataset: Dataset, path: Path) -> None:
    """Write the picture as PNG, whole or not at all."""
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        contact_sheet(dataset).save(temporary, 'PNG', optimize=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _caption(pen: ImageDraw.ImageDraw, episode: Episode, top: int) -> None:
    font = ImageFont.load_default(13)
    seconds = (episode.frames - 1) / episode.spec.fps
    notes = episode.attributes
    lines = [(f'episode {episode.index}', TEXT), (f'seed {notes.get("seed", "?")}, {seconds:.1f} s', FAINT)]
    if notes.get('noise_rad'):
        lines.append((f'noise {notes["noise_rad"] * 1e3:g} mrad', FAINT))
    if notes.get('mistake'):
        lines.append((f'mistake: {notes["mistake"]}', MISTAKE))
    if not episode.success:
        lines.append(('failed', MISTAKE))
    for number, (text, colour) in enumerate(lines):
        pen.text((6, top + 6 + 18 * number), text, colour, font)
