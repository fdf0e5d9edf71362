"""Reads a recorded episode back, on any machine: no ROS is needed, a bag describes itself."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingbot_va_core.robot import Camera, RobotProfile
from lingbot_va_ros.bag import Bag, BagReadError, nanoseconds
from lingbot_va_ros.camera_view import CameraView
from lingbot_va_ros.modes import MODES


@dataclass(frozen=True)
class Episode:
    """Which part of the bag is the episode; times in integer nanoseconds.

    Attributes:
        numbers: of all episodes of the task, in order: more than one when the world model had to restart its context.
        start_ns, end_ns: of the task, as in headers.
        announced_ns: when the recorder received the first announcement.
    """

    numbers: tuple[int, ...]
    mode: str
    instruction: str
    start_ns: int
    end_ns: int
    announced_ns: int


class EpisodeBag:
    """An open bag of our graph: `with EpisodeBag(folder) as bag: ...`.

    It may hold several starts of the graph, each of which begins to count again.

    Attributes:
        path: the bag's folder.
        notes: what the recorder was told (robot, profile, task, checkpoint, ...).
        profile: the robot.
        episode: the last task that began in the bag.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._bag = path, Bag(path)

    def __enter__(self) -> 'EpisodeBag':
        with ExitStack() as opened:
            opened.enter_context(self._bag)
            self.notes = self._bag.notes
            self.profile: RobotProfile = self._bag.profile()
            self.episode = self._find_episode()
            opened.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bag.__exit__(*exception)

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic as given, log time in ns, message) from the task's announcement on; see `Bag.messages`."""
        return self._bag.messages(*topics, start_ns=self.episode.announced_ns)

    def image_topic(self, camera: Camera) -> str | None:
        """Return where a camera's images are; see `Bag.image_topic`."""
        return self._bag.image_topic(camera)

    def view(self, camera: Camera) -> CameraView:
        """Return what turns a camera's messages into data; see `Bag.view`."""
        return self._bag.view(camera)

    def in_episode(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Yield those messages that carry a number of the task's episodes."""
        for topic, log_ns, message in self.messages(*topics):
            if message.episode in self.episode.numbers:
                yield topic, log_ns, message

    def _find_episode(self) -> Episode:
        announced = announcements(self._bag)
        starts = [i for i, (_, message) in enumerate(announced) if message.episode]
        if not starts:
            raise BagReadError(f'{self.path} holds no episode')
        announced_ns, first = announced[starts[-1]]
        numbers = (first.episode,)
        for log_ns, message in (announced[i] for i in reversed(starts[:-1])):
            if message.task != first.task or message.episode >= numbers[0]:  # another task, or another graph's
                break
            announced_ns, first, numbers = log_ns, message, (message.episode, *numbers)
        ends = [nanoseconds(message.header.stamp) for _, message in announced[starts[-1] + 1 :]]
        return Episode(
            numbers=numbers,
            mode=MODES[first.mode],
            instruction=first.instruction,
            start_ns=nanoseconds(first.header.stamp),
            end_ns=ends[0] if ends else self._last_stamp(numbers, announced_ns),
            announced_ns=announced_ns,
        )

    def _last_stamp(self, episodes: tuple[int, ...], announced_ns: int) -> int:
        """Return when the last command of a task that has no end was sent."""
        commands = self._bag.messages('command', start_ns=announced_ns)
        stamps = [nanoseconds(message.header.stamp) for _, _, message in commands if message.episode in episodes]
        if not stamps:
            raise BagReadError(f'{self.path} holds no command of episode {episodes[-1]}')
        return stamps[-1]


def announcements(bag: Bag) -> list[tuple[int, Any]]:
    """Return (log time in ns, message) of the episodes that were announced, in order; 0 stands for an end.

    A message that was sent again counts once. Graphs that were started again repeat the numbers, with other stamps.
    """
    first: dict[tuple[int, int], tuple[int, Any]] = {}
    for _, log_ns, message in bag.messages('episode'):
        first.setdefault((message.episode, nanoseconds(message.header.stamp)), (log_ns, message))
    return list(first.values())
