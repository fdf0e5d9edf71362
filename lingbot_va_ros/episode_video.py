"""The film of a recorded episode: real cameras above, what the world model imagined below."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import Camera
from lingbot_va_ros.atomic import replaced
from lingbot_va_ros.bag import BagReadError, nanoseconds
from lingbot_va_ros.camera_frames import CameraFrame, camera_frames
from lingbot_va_ros.episode_bag import EpisodeBag
from lingbot_va_ros.imagined_video import ImaginedFrame, imagined_frames, load_recorded_model

HOLD = -1  # DualArmCommand.action_index
TILE_WIDTH = 320
BAR_HEIGHT = 32
BACKGROUND, EMPTY, TEXT, FAINT = (18, 20, 24), (44, 47, 54), (240, 240, 240), (160, 165, 175)
MOVING, HOLDING = (120, 210, 140), (235, 190, 90)
SHEET_COLUMNS, SHEET_ROWS = 2, 3


def write_video(bag: EpisodeBag, path: Path) -> int:
    """Write the film of an open bag's episode as MP4 (H.264, yuv420p) and return its number of frames.

    Raises:
        BagReadError: the bag holds no image of the reference camera, or the model that imagined is not to be had.
    """
    model = load_recorded_model(bag)
    label = 'imagined' if bag.notes.get('checkpoint') else 'imagined (untrained)'
    frames = imagined_frames(bag.in_episode, len(bag.profile.cameras), model)
    imagined = _Timeline(sorted(frames, key=lambda frame: (frame.stamp_ns, frame.chunk)))
    states = _States(bag)
    layout = _Layout(bag.profile.cameras, label, bag.episode.instruction)
    rate = Fraction(NANOSECONDS, bag.profile.clock.video_ns)
    pictures = (
        (frame.number, layout.draw(frame, imagined.at(frame.stamp_ns), states.at(frame.stamp_ns), bag.episode.start_ns))
        for frame in camera_frames(bag)
    )
    with replaced(path) as temporary:
        count = _encode(pictures, layout.size, rate, temporary)
        if not count:
            raise BagReadError(f'{bag.path} holds no image of {bag.profile.cameras[0].name} within the episode')
    return count


def write_contact_sheet(video: Path, path: Path) -> None:
    """Write a PNG with a few frames of a film, evenly spread."""
    with av.open(str(video)) as container:
        total = sum(1 for _ in container.decode(video=0))
    wanted = np.linspace(0, total - 1, SHEET_COLUMNS * SHEET_ROWS + 2).round().astype(int)[1:-1].tolist()
    with av.open(str(video)) as container:
        pictures = {i: f.to_image() for i, f in enumerate(container.decode(video=0)) if i in wanted}
    chosen = [pictures[i] for i in wanted]  # a very short film repeats frames
    width, height = chosen[0].width // 2, chosen[0].height // 2
    sheet = Image.new('RGB', (width * SHEET_COLUMNS + 8, (height + 8) * SHEET_ROWS - 8), BACKGROUND)
    for i, picture in enumerate(chosen):
        corner = (i % SHEET_COLUMNS * (width + 8), i // SHEET_COLUMNS * (height + 8))
        sheet.paste(picture.resize((width, height), Image.Resampling.LANCZOS), corner)
    with replaced(path) as temporary:
        sheet.save(temporary, optimize=True)


class _Timeline:
    """Imagined frames by time; the newest one lasts until the next."""

    def __init__(self, frames: list[ImaginedFrame]) -> None:
        self._frames = frames
        self._stamps = [frame.stamp_ns for frame in frames]
        self._slack = (self._stamps[1] - self._stamps[0]) // 2 if len(frames) > 1 else 0

    def at(self, stamp_ns: int) -> ImaginedFrame | None:
        """Return what was expected at an instant, None before the first prediction."""
        after = bisect_right(self._stamps, stamp_ns + self._slack)
        return self._frames[after - 1] if after else None


@dataclass(frozen=True)
class _State:
    """What the arms do: the chunk and action that they follow, None while they hold."""

    chunk: int | None
    action: int | None

    @property
    def text(self) -> str:
        return 'holding' if self.chunk is None else f'chunk {self.chunk}, action {self.action}'


class _States:
    """What was commanded when."""

    def __init__(self, bag: EpisodeBag) -> None:
        commands = [command for _, _, command in bag.in_episode('command')]
        self._stamps = [nanoseconds(command.header.stamp) for command in commands]
        self._states = [self._state(command) for command in commands]

    def at(self, stamp_ns: int) -> _State:
        """Return the newest state at an instant."""
        after = bisect_right(self._stamps, stamp_ns)
        return self._states[after - 1] if after else _State(None, None)

    @staticmethod
    def _state(command: Any) -> _State:
        return _State(None, None) if command.action_index == HOLD else _State(command.chunk, command.action_index)


class _Layout:
    """Draws a video frame: a bar with the state, the real cameras, the imagined ones."""

    def __init__(self, cameras: tuple[Camera, ...], label: str, instruction: str) -> None:
        self._cameras, self._label = cameras, label
        sizes = [camera.view_size for camera in cameras]
        heights = [TILE_WIDTH * height // width for width, height in sizes]
        self._tile = (TILE_WIDTH, max(heights) // 2 * 2)
        self.size = (TILE_WIDTH * len(cameras), BAR_HEIGHT + 2 * self._tile[1])
        self._font, self._small = ImageFont.load_default(15), ImageFont.load_default(13)
        self._instruction = self._fit(instruction, self.size[0] - 330)

    def draw(self, real: CameraFrame, imagined: ImaginedFrame | None, state: _State, start_ns: int) -> Image.Image:
        """Return the picture, RGB of `size`."""
        picture = Image.new('RGB', self.size, BACKGROUND)
        pen = ImageDraw.Draw(picture)
        pen.text((10, BAR_HEIGHT // 2), self._instruction, TEXT, self._font, anchor='lm')
        seconds = f'{(real.stamp_ns - start_ns) / NANOSECONDS:5.2f} s'
        pen.text((self.size[0] - 10, BAR_HEIGHT // 2), seconds, TEXT, self._font, anchor='rm')
        colour = HOLDING if state.chunk is None else MOVING
        pen.text((self.size[0] - 90, BAR_HEIGHT // 2), state.text, colour, self._font, anchor='rm')
        expected = imagined.images if imagined else [None] * len(self._cameras)
        below = f'{self._label}, chunk {imagined.chunk}' if imagined else 'no prediction yet'
        for row, (images, caption) in enumerate(((real.images, 'real'), (expected, below))):
            for column, (camera, image) in enumerate(zip(self._cameras, images, strict=True)):
                corner = (column * TILE_WIDTH, BAR_HEIGHT + row * self._tile[1])
                self._place(picture, pen, corner, image, f'{camera.name} · {caption}')
        return picture

    def _place(
        self,
        picture: Image.Image,
        pen: ImageDraw.ImageDraw,
        corner: tuple[int, int],
        image: np.ndarray | None,
        caption: str,
    ) -> None:
        if image is None:
            pen.rectangle((*corner, corner[0] + self._tile[0] - 1, corner[1] + self._tile[1] - 1), EMPTY)
        else:
            scale = min(self._tile[0] / image.shape[1], self._tile[1] / image.shape[0])
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            offset = (corner[0] + (self._tile[0] - size[0]) // 2, corner[1] + (self._tile[1] - size[1]) // 2)
            picture.paste(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS), offset)
        colour = FAINT if image is None else TEXT
        text_at = (corner[0] + 7, corner[1] + 5)
        pen.text(text_at, caption, colour, self._small, stroke_width=2, stroke_fill=(0, 0, 0))

    def _fit(self, text: str, width: int) -> str:
        """Shorten a text to a width in pixels."""
        if self._font.getlength(text) <= width:
            return text
        while text and self._font.getlength(f'{text}…') > width:
            text = text[:-1]
        return f'{text.rstrip()}…'


def _encode(pictures: Iterator[tuple[int, Image.Image]], size: tuple[int, int], rate: Fraction, path: Path) -> int:
    """Write (frame number, picture) with H.264, or MPEG-4 where this build of FFmpeg has no encoder for it."""
    codec = 'libx264' if 'libx264' in av.codecs_available else 'mpeg4'
    count = 0
    with av.open(str(path), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = 'yuv420p'
        stream.options = {'crf': '23', 'preset': 'veryfast'} if codec == 'libx264' else {'qscale:v': '3'}
        for number, picture in pictures:
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        if count:
            container.mux(stream.encode())
    return count
