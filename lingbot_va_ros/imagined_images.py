"""The thread that shows what the world model imagines, as images beside those of the cameras."""

import array
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sensor_msgs.msg import Image

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.imagined_stream import ImaginedStream
from lingbot_va_core.robot import Camera
from lingbot_va_ros.conversions import to_time

NICENESS = 19  # of this thread: what is seen must not delay what is done
POLL_S = 0.02  # while images wait for their instant, which may pass faster in a simulation
STALE_NS = NANOSECONDS  # imagined frames whose instant is longer ago are not decoded


class ImaginedImages:
    """Decodes imagined frames while somebody subscribes to an image, and publishes each at the instant that it shows.

    The methods may be called from any thread and return at once. Frames come in order.

    Args:
        stream: decodes; used by the thread alone.
        device: that it decodes on.
        cameras: of the profile.
        publishers: of `imagined_topic`, for each camera.
        now: the node's clock, nanoseconds.
        on_error: told why a frame could not be shown; called from the thread.
    """

    def __init__(
        self,
        stream: ImaginedStream,
        device: torch.device,
        cameras: Sequence[Camera],
        publishers: Sequence[Any],
        now: Callable[[], int],
        on_error: Callable[[str], None],
    ) -> None:
        self._stream, self._device, self._now, self._on_error = stream, device, now, on_error
        self._outputs = list(zip(cameras, publishers, strict=True))
        self._inputs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._shown: deque[tuple[int, list[np.ndarray]]] = deque()  # instant and the images of all cameras
        self.decoded = 0
        self._thread = threading.Thread(target=self._run, name='imagined images', daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Begin another episode."""
        self._inputs.put(self._begin)

    def observe(self, index: int, latent: torch.Tensor) -> None:
        """Give a real latent frame [C, h, w]."""
        self._inputs.put(lambda: self._stream.observe(index, latent))

    def imagine(self, index: int, latent: torch.Tensor, stamps: Sequence[int]) -> None:
        """Give an imagined latent frame and the instants of its four video frames, nanoseconds."""
        self._inputs.put(lambda: self._imagine(index, latent, stamps))

    def close(self) -> None:
        """End the thread."""
        self._inputs.put(None)
        self._thread.join()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # a thread has its own on Linux
        gpu = self._device.type == 'cuda'  # there, what encodes has the default stream for itself
        with torch.cuda.stream(torch.cuda.Stream(self._device)) if gpu else contextlib.nullcontext():
            while True:
                try:
                    take = self._inputs.get(timeout=POLL_S if self._shown else None)
                except queue.Empty:
                    take = self._publish_due
                if take is None:
                    return
                try:
                    take()
                    self._publish_due()
                except (ValueError, RuntimeError) as error:  # what is shown must not end what is done
                    self._shown.clear()
                    self._on_error(f'imagined images are not shown: {error}')

    def _begin(self) -> None:
        self._stream.reset()
        self._shown.clear()

    def _imagine(self, index: int, latent: torch.Tensor, stamps: Sequence[int]) -> None:
        watched = any(publisher.get_subscription_count() for _, publisher in self._outputs)
        images = self._stream.imagine(index, latent, watched and self._now() - stamps[-1] < STALE_NS)
        self._shown.extend(zip(stamps[len(stamps) - len(images) :], images, strict=True))
        self.decoded += bool(images)

    def _publish_due(self) -> None:
        while self._shown and self._shown[0][0] <= self._now():
            stamp_ns, images = self._shown.popleft()
            for (camera, publisher), image in zip(self._outputs, images, strict=True):
                if publisher.get_subscription_count():
                    publisher.publish(image_message(image, stamp_ns, camera.frame_id))


def image_message(image: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """Pack an image, uint8 RGB [H, W, 3]."""
    height, width, _ = image.shape
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), frame_id
    message.data = array.array('B', image.tobytes())
    return message
