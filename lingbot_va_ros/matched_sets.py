"""Lets message_filters match the images of all cameras before they are sampled."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from lingbot_va_core.sampling import RESTARTED_NS
from lingbot_va_ros.conversions import to_ns

QUEUE = 16  # images of each camera that wait for those of the others


def library() -> ModuleType:
    """Import the ROS package, which is in no registry of pip; raises ValueError where it is not installed."""
    try:
        import message_filters
    except ImportError as error:
        raise ValueError(
            'synchronizer is message_filters, which is not installed here; install the ROS package (apt: '
            'ros-$ROS_DISTRO-message-filters), or set synchronizer to reference_clock'
        ) from error
    return message_filters


class MatchedSets:
    """Takes images as a FrameSampler does, and passes on those that belong together.

    They are matched by ApproximateTimeSynchronizer. The images of a set are all passed on with the stamp of the first
    camera's, so that whoever takes the nearest of each camera takes whole sets.

    Args:
        cameras: number of cameras.
        max_skew_s: the stamps of a set are not farther apart.
        push: `FrameSampler.push`.

    Raises:
        ValueError: message_filters is not installed.
    """

    def __init__(self, cameras: int, max_skew_s: float, push: Callable[[int, int, Any], None]) -> None:
        self._library, self._max_skew_s, self._push = library(), max_skew_s, push
        self._newest = [0] * cameras
        self._connect()

    def push(self, camera: int, stamp_ns: int, message: Any) -> None:
        """Add an image; the set that it completes is passed on."""
        if stamp_ns < self._newest[camera] - RESTARTED_NS:  # the clock was set back: the queues keep what is newest
            self._newest = [0] * len(self._newest)
            self._connect()
        self._newest[camera] = stamp_ns
        self._inputs[camera].signalMessage(message)

    def _connect(self) -> None:
        self._inputs = [self._library.SimpleFilter() for _ in self._newest]
        synchronizer = self._library.ApproximateTimeSynchronizer(self._inputs, QUEUE, self._max_skew_s)
        synchronizer.registerCallback(self._on_set)

    def _on_set(self, *messages: Any) -> None:
        stamp_ns = to_ns(messages[0].header.stamp)
        for camera, message in enumerate(messages):
            self._push(camera, stamp_ns, message)
