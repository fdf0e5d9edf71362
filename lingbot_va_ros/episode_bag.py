"""Reads a recorded episode back, on any machine: no ROS is needed, a bag describes itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rosbags.highlevel import AnyReader, AnyReaderError

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import RobotProfile, parse_profile
from lingbot_va_ros.modes import MODES


class EpisodeBagError(ValueError):
    """A bag that cannot be read, or that holds no episode."""


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
    """An open bag: `with EpisodeBag(folder) as bag: ...`.

    Attributes:
        path: the bag's folder.
        notes: what the recorder was told (robot, profile, task, checkpoint, ...).
        profile: the robot.
        episode: the last task that began in the bag.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            document = yaml.safe_load((path / 'metadata.yaml').read_text())
            self.notes: dict[str, str] = document['rosbag2_bagfile_information']['custom_data'] or {}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise EpisodeBagError(f'{path} is not a complete rosbag2 bag: {error}') from error
        if 'profile' not in self.notes:
            raise EpisodeBagError(f'{path} names no robot profile; record it with `lingbot-va record`')
        self.profile: RobotProfile = parse_profile(self.notes['profile'], f'the profile in {path}')
        self._prefix = '/' + self.notes.get('namespace', '').strip('/')

    def __enter__(self) -> 'EpisodeBag':
        try:
            self._reader = AnyReader([self.path])
            self._reader.open()
        except (AnyReaderError, OSError) as error:
            raise EpisodeBagError(f'{self.path} cannot be read: {error}') from error
        self._connections = {connection.topic: connection for connection in self._reader.connections}
        self.episode = self._find_episode()
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.close()

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic as given, log time in ns, message) of these topics in the order in which they were received.

        Names are relative to the graph's namespace; a topic that is not in the bag yields nothing.
        """
        names = {self._resolve(topic): topic for topic in topics}
        connections = [self._connections[name] for name in names if name in self._connections]
        if not connections:
            return
        for connection, log_ns, data in self._reader.messages(connections):
            yield names[connection.topic], log_ns, self._reader.deserialize(data, connection.msgtype)

    def in_episode(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """Yield those messages that carry a number of the task's episodes."""
        for topic, log_ns, message in self.messages(*topics):
            if message.episode in self.episode.numbers:
                yield topic, log_ns, message

    def _resolve(self, topic: str) -> str:
        return topic if topic.startswith('/') else f'{self._prefix.rstrip("/")}/{topic}'

    def _find_episode(self) -> Episode:
        announced = [(log_ns, message) for _, log_ns, message in self.messages('episode')]
        starts = [i for i, (_, message) in enumerate(announced) if message.episode]
        if not starts:
            raise EpisodeBagError(f'{self.path} holds no episode')
        task = announced[starts[-1]][1].task
        mine = [i for i in starts if announced[i][1].task == task]
        announced_ns, first = announced[mine[0]]
        numbers = tuple(announced[i][1].episode for i in mine)
        ends = [nanoseconds(message.header.stamp) for _, message in announced[starts[-1] + 1 :]]
        return Episode(
            numbers=numbers,
            mode=MODES[first.mode],
            instruction=first.instruction,
            start_ns=nanoseconds(first.header.stamp),
            end_ns=ends[0] if ends else self._last_stamp(numbers),
            announced_ns=announced_ns,
        )

    def _last_stamp(self, episodes: tuple[int, ...]) -> int:
        """Return when the last command of a task that has no end was sent."""
        stamps = [nanoseconds(m.header.stamp) for _, _, m in self.messages('command') if m.episode in episodes]
        if not stamps:
            raise EpisodeBagError(f'{self.path} holds no command of episode {episodes[-1]}')
        return stamps[-1]


def nanoseconds(time: Any) -> int:
    """Return a builtin_interfaces Time or Duration in nanoseconds."""
    return time.sec * NANOSECONDS + time.nanosec
