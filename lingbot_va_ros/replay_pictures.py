"""Pictures of a replay: what was imagined above what came, and predicted actions over those that were executed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lingbot_va_core.robot import RobotProfile
from lingbot_va_ros.atomic import replaced
from lingbot_va_ros.recorded_run import RecordedRun
from lingbot_va_ros.replay import Replayed
from lingbot_va_ros.replay_evaluation import Compared, action_groups

BACKGROUND, TEXT, GRID, GREY = (255, 255, 255), (30, 34, 40), (215, 219, 225), (165, 170, 180)
COLOURS = (
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
)
COLUMNS = 8
TILE_WIDTH = 160
MARGIN, LABEL = 8, 18
WIDTH, HEIGHT = 1200, 180  # of a plot
FLAT = 1e-3  # smallest range of values that a plot shows
AXIS = 64  # room for numbers left of a plot


class ComparisonSheet:
    """A PNG with a few latent frames as columns: for each camera what was imagined, and below it what came.

    Args:
        profile: of the robot.
        expected: how many frames may be added; a few of them, evenly spread, are kept.
    """

    def __init__(self, profile: RobotProfile, expected: int) -> None:
        self._profile = profile
        self._wanted = set(np.linspace(0, expected - 1, min(COLUMNS, expected)).round().astype(int).tolist())
        self._added = 0
        self._frames: list[Compared] = []

    def add(self, frame: Compared) -> None:
        """Take a frame."""
        if self._added in self._wanted:
            self._frames.append(frame)
        self._added += 1

    def write(self, path: Path) -> None:
        """Write the picture."""
        heights = [TILE_WIDTH * image.shape[0] // image.shape[1] for image in self._frames[0].real]
        size = (
            MARGIN + (TILE_WIDTH + MARGIN) * len(self._frames),
            LABEL + sum(2 * (height + 2) + LABEL + MARGIN for height in heights),
        )
        picture = Image.new('RGB', size, BACKGROUND)
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
        for column, frame in enumerate(self._frames):
            left, top = MARGIN + column * (TILE_WIDTH + MARGIN), LABEL
            pen.text((left, 3), f'frame {frame.index}, error {frame.error:.1f}', TEXT, font)
            for camera, height, *pair in zip(self._profile.cameras, heights, frame.imagined, frame.real, strict=True):
                if column == 0:
                    pen.text((left, top + 2), f'{camera.name}: imagined, real', TEXT, font)
                top += LABEL
                for image in pair:
                    tile = Image.fromarray(image).resize((TILE_WIDTH, height), Image.Resampling.LANCZOS)
                    picture.paste(tile, (left, top))
                    top += height + 2
                top += MARGIN
        with replaced(path) as temporary:
            picture.save(temporary, optimize=True)


def write_curves(run: RecordedRun, chunks: Sequence[Replayed], profile: RobotProfile, path: Path) -> None:
    """Write a PNG with a plot for each group of channels: executed actions grey, predicted ones coloured, by frame."""
    groups = action_groups(profile)
    plot_height = HEIGHT + LABEL + MARGIN
    picture = Image.new('RGB', (AXIS + WIDTH + MARGIN, plot_height * len(groups)), BACKGROUND)
    starts = [each.chunk.first_latent_index for each in chunks]
    predicted = [(start + i, frame) for start, each in zip(starts, chunks, strict=True)
                 for i, frame in enumerate(each.chunk.actions)]  # fmt: skip
    end = predicted[-1][0] + 1
    executed = [(index, actions) for index, actions in sorted(run.executed.items()) if index < end]
    for row, (name, (channels, unit)) in enumerate(groups.items()):
        values = np.concatenate([actions[:, channels].ravel() for _, actions in (*executed, *predicted)])
        plot = _Plot(picture, row * plot_height + LABEL, end, float(values.min()), float(values.max()))
        plot.describe(
            f'{name}, {unit}: executed grey, predicted coloured; by latent frame, vertical lines: chunks', starts
        )
        for frames, colours, width in ((executed, [GREY], 3), (predicted, COLOURS, 1)):
            for i, channel in enumerate(channels):
                for index, actions in frames:
                    plot.line(index, actions[:, channel], colours[i % len(colours)], width)
    with replaced(path) as temporary:
        picture.save(temporary, optimize=True)


class _Plot:
    """Draws curves over latent frames 0 to `end` into a picture."""

    def __init__(self, picture: Image.Image, top: int, end: int, low: float, high: float) -> None:
        self._pen, self._font = ImageDraw.Draw(picture), ImageFont.load_default(12)
        self._top, self._end, self._low, self._high = top, end, low, high

    def describe(self, title: str, marks: Sequence[int]) -> None:
        """Draw frame, title, the range of values, and vertical lines."""
        pen, top = self._pen, self._top
        pen.text((AXIS, top - LABEL + 2), title, TEXT, self._font)
        pen.text((4, top), f'{self._high:.3f}', TEXT, self._font)
        pen.text((4, top + HEIGHT - LABEL), f'{self._low:.3f}', TEXT, self._font)
        pen.rectangle((AXIS, top, AXIS + WIDTH, top + HEIGHT), outline=GRID)
        for mark in marks:
            x = AXIS + WIDTH * mark / self._end
            pen.line((x, top, x, top + HEIGHT), GRID)

    def line(self, frame: int, values: np.ndarray, colour: tuple[int, int, int], width: int) -> None:
        """Draw the values within a latent frame."""
        xs = AXIS + WIDTH * (frame + (np.arange(len(values)) + 1) / len(values)) / self._end
        ys = self._top + HEIGHT * (1 - (values - self._low) / max(self._high - self._low, FLAT))
        self._pen.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), colour, width)
