"""The synchronized camera images of a recorded episode."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lingbot_va_ros.bag import nanoseconds
from lingbot_va_ros.episode_bag import EpisodeBag

PATIENCE = 4  # video frames to wait for the slowest camera


@dataclass(frozen=True)
class CameraFrame:
    """One video frame.

    Attributes:
        number: position on the grid of video frames that begins with the episode's first frame, from 0.
        stamp_ns: of the reference camera, the first of the profile.
        images: of each camera as data (`CameraView`), the nearest to `stamp_ns`; None where a camera sent nothing yet.
    """

    number: int
    stamp_ns: int
    images: list[np.ndarray | None]


def camera_frames(bag: EpisodeBag) -> Iterator[CameraFrame]:
    """Yield the episode's video frames in the reference camera's time, at most one for each video period."""
    period = bag.profile.clock.video_ns
    topics = [bag.image_topic(camera) or camera.topic for camera in bag.profile.cameras]
    views = [bag.view(camera) for camera in bag.profile.cameras]
    seen: dict[str, deque[tuple[int, Any]]] = {topic: deque(maxlen=8 * PATIENCE) for topic in topics[1:]}
    waiting: deque[tuple[int, int, Any]] = deque()
    start, last = None, -1

    def emit() -> CameraFrame:
        number, stamp, reference = waiting.popleft()
        others = [min(seen[t], key=lambda item: abs(item[0] - stamp), default=(0, None))[1] for t in topics[1:]]
        pairs = zip(views, (reference, *others), strict=True)
        return CameraFrame(number, stamp, [image and view.rgb(image) for view, image in pairs])

    for topic, _, image in bag.messages(*topics):
        stamp = nanoseconds(image.header.stamp)
        if topic != topics[0]:
            seen[topic].append((stamp, image))
        elif bag.episode.start_ns <= stamp <= bag.episode.end_ns:
            start = stamp if start is None else start
            number = round((stamp - start) / period)
            if number > last:  # a camera that is faster than the video is thinned out
                waiting.append((number, stamp, image))
                last = number
        while waiting and (
            len(waiting) > PATIENCE or all(images and images[-1][0] >= waiting[0][1] for images in seen.values())
        ):
            yield emit()
    while waiting:
        yield emit()
