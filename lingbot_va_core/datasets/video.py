"""H.264 in MP4, one episode of one camera after the other: written frame by frame, read in any part."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.datasets.layout import DatasetError, View

# Nearly lossless, since objects of a few pixels matter. Without B-frames, stamps are simply those of the frames; a key
# frame every two seconds bounds what a reader has to decode on its way.
CODEC = 'libx264'
OPTIONS = {'crf': '16', 'preset': 'fast', 'bf': '0', 'threads': '1'}
KEY_FRAME_S = 2


class VideoWriter:
    """Encodes RGB images as they come; memory does not grow with their number."""

    def __init__(self, path: Path, view: View, period_ns: int, crf: int | None = None) -> None:
        """Begin a file; `crf` is the constant rate factor of H.264 where quality may be less than that of data."""
        options = OPTIONS if crf is None else OPTIONS | {'crf': str(crf)}
        self._view = view
        self._rate = Fraction(NANOSECONDS, period_ns)
        self._container = av.open(str(path), 'w', format='mp4')
        self._stream = self._container.add_stream(CODEC, rate=self._rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = view.width, view.height, 'yuv420p'
        self._stream.codec_context.gop_size = round(KEY_FRAME_S * self._rate)
        self._colours = VideoReformatter()  # one for all frames: to make one takes longer than to use it
        self._count = self._taken = 0

    def add(self, image: np.ndarray) -> None:
        """Encode a uint8 RGB image [height, width, 3]."""
        self.encode(self.frame(image))

    def frame(self, image: np.ndarray) -> av.VideoFrame:
        """Copy a uint8 RGB image [height, width, 3] for `encode`; raises DatasetError unless it is one."""
        expected = (self._view.height, self._view.width, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise DatasetError(
                f'{self._view.name}: frame {self._taken} is {image.dtype} {image.shape}; give uint8 {expected}'
            )
        self._taken += 1
        return av.VideoFrame.from_ndarray(image, format='rgb24')

    def encode(self, frame: av.VideoFrame) -> None:
        """Encode what `frame` returned, in any one thread."""
        self._frame = frame.reformat(format='yuv420p')
        self.repeat(1)

    def repeat(self, count: int) -> None:
        """Encode the last image so many times more."""
        for _ in range(count):
            self._frame.pts, self._frame.time_base = self._count, 1 / self._rate
            self._container.mux(self._stream.encode(self._frame))
            self._count += 1

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        if self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def read_frames(path: Path, view: View, start_ns: int, period_ns: int, count: int) -> Iterator[np.ndarray]:
    """Decode the `count` frames from `start_ns` on, uint8 RGB [height, width, 3].

    Raises:
        DatasetError: the file is missing or damaged, or a frame is missing, at another instant or of another size.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if (stream.width, stream.height) != (view.width, view.height):
                raise DatasetError(
                    f'{view.name} has {stream.width} x {stream.height} pixels, but {view.width} x {view.height} were '
                    f'announced ({path})'
                )
            if start_ns > 0:
                container.seek(round((start_ns - period_ns // 2) / NANOSECONDS / stream.time_base), stream=stream)
            due, found, colours = start_ns, 0, VideoReformatter()
            for frame in container.decode(stream):
                stamp_ns = round(frame.pts * stream.time_base * NANOSECONDS)
                if stamp_ns < start_ns - period_ns // 2:
                    continue  # between the key frame and the start
                if found == count:
                    return
                if abs(stamp_ns - due) > period_ns // 4:
                    raise DatasetError(
                        f'frame {found} of {view.name} is at {stamp_ns / 1e9:.3f} s instead of {due / 1e9:.3f} s; a '
                        f'frame is missing or the rate is another ({path})'
                    )
                yield colours.reformat(frame, format='rgb24').to_ndarray()
                found += 1
                due = start_ns + found * period_ns
            if found < count:
                raise DatasetError(f'frame {found} of {view.name} is missing: the video ends there ({path})')
    except FileNotFoundError:
        raise DatasetError(f'the video of {view.name} is missing ({path})') from None
    except (FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f'the video of {view.name} cannot be read: {error} ({path})') from error


def frame_stamps(path: Path) -> tuple[tuple[int, int], np.ndarray]:
    """Return (width, height) and the instants of all frames of a video, int64 ns, sorted, without decoding them.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            scale = stream.time_base * NANOSECONDS
            stamps = sorted(round(packet.pts * scale) for packet in container.demux(stream) if packet.size)
            return (stream.width, stream.height), np.array(stamps, dtype=np.int64)
    except FileNotFoundError:
        raise DatasetError(f'{path} is missing') from None
    except (FFmpegError, IndexError, OSError, TypeError) as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error
