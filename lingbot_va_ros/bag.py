"""A rosbag2 bag as data: its notes, topics and messages, read one after the other, without a ROS graph."""

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import ReaderError

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import Camera, RobotProfile, load_profile, parse_profile
from lingbot_va_ros.bag_recovery import is_incomplete, recover_bag
from lingbot_va_ros.camera_view import CameraView
from lingbot_va_ros.message_types import message_types
from lingbot_va_ros.recording_events import NOTES_TOPIC

SPARE_BYTES = 16


class BagReadError(ValueError):
    """A bag that cannot be read or used; the message names the bag and, where it applies, topic and time."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its message type by name, how many messages there are, and whether they can be used."""

    kind: str
    count: int
    known: bool = True


class Bag:
    """An open bag: `with Bag(path) as bag: ...`.

    `path` is the folder of a bag (MCAP or SQLite), one of its files, or what a killed recorder left, of which a
    complete bag is then made in a temporary folder.

    Attributes:
        path: as given.
        place: where it lies: a temporary folder if it was recovered.
        notes: what the recorder noted (robot, profile, dropped, ...) in the bag's metadata or as messages, empty for
            bags of other recorders.
        namespace: of the recorded graph.
        topics: by resolved name.
        incomplete: what a killed recorder left was read.
    """

    def __init__(
        self, path: Path, place: Path | None = None, namespace: str | None = None, folder: Path | None = None
    ) -> None:
        """Prepare to open a bag.

        Args:
            path: see above.
            place: where it lies, if it was recovered before.
            namespace: in place of that which the recorder noted.
            folder: where a temporary folder is made for a recovered one; None: where temporary files are.
        """
        self.path, self.place = path, place or path
        self._namespace, self._folder = namespace, folder
        self._stack = ExitStack()

    def __enter__(self) -> 'Bag':
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        if not self.path.exists():
            raise BagReadError(f'{self.path} does not exist')
        self.incomplete = self.path.is_dir() and is_incomplete(self.path)
        if self.incomplete and self.place == self.path:
            temporary = tempfile.TemporaryDirectory(prefix='.lingbot_va_bag_', dir=self._folder)
            self.place = recover_bag(self.path, Path(self._stack.enter_context(temporary)) / 'bag').path
        noted = _notes(self.place)
        try:
            self._reader = AnyReader([self.place], default_typestore=message_types())
            self._reader.open()
        except Exception as error:  # of the library, of the compression or of the operating system
            raise BagReadError(f'{self.path} cannot be read: {reason(error)}{self._remedy()}') from error
        self._stack.callback(self._reader.close)
        known = self._reader.typestore.fielddefs
        self._lacking = _lacking(known)
        usable = known.keys() - self._lacking.keys()
        self.topics = {
            name: Topic(found.msgtype or 'of several types', found.msgcount, (found.msgtype or '') in usable)
            for name, found in self._reader.topics.items()
        }
        self._connections = list(self._reader.connections)
        self._views: dict[Camera, CameraView] = {}
        if not any(topic.count for topic in self.topics.values()):
            raise BagReadError(f'{self.path} holds no message')
        self.notes = noted if 'profile' in noted else self._published_notes() | noted
        namespace = self.notes.get('namespace', '') if self._namespace is None else self._namespace
        self.namespace = namespace.strip('/')

    def _published_notes(self) -> dict[str, str]:
        """Return what was last said on a topic for notes, by recorders that cannot write metadata."""
        names = [name for name, topic in self.topics.items() if name.endswith(f'/{NOTES_TOPIC}') and topic.known]
        notes: dict[str, str] = {}
        for name, log_ns, message in self.messages(*names):
            try:
                notes = {'namespace': name.removesuffix(NOTES_TOPIC), **json.loads(message.data)}
            except (ValueError, TypeError, AttributeError) as error:
                raise BagReadError(f'{self.path}: the notes on {name} at {instant(log_ns)}: {error}') from error
        return notes

    def _decode(self, data: bytes, kind: str) -> Any:
        """Decode a message, also one that `serialize_message` made: it leaves some bytes of its estimate behind."""
        if not self._reader.is2:
            return self._reader.deserialize(data, kind)
        store = self._reader.typestore
        definition = store.get_msgdef(kind)
        decode = definition.deserialize_cdr_le if data[1] else definition.deserialize_cdr_be
        message, size = decode(data[4:], 0, definition.cls, store)
        if len(data) - 4 - size > SPARE_BYTES:
            raise ValueError(f'it has {len(data)} bytes, of which {size + 4} belong to it')
        return message

    def _remedy(self) -> str:
        if self.path.is_dir() and not any(self.path.glob('*.mcap')):
            return ''
        folder = self.path if self.path.is_dir() else self.path.parent
        return f'; `lingbot-va record --recover {folder} --out NEW` makes a bag of what is whole in it'

    @property
    def dropped(self) -> dict[str, int]:
        """Messages that the recorder received and could not write, by topic."""
        try:
            return {str(topic): int(count) for topic, count in json.loads(self.notes.get('dropped') or '{}').items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise BagReadError(f'{self.path}: its note of dropped messages cannot be read: {error}') from error

    def profile(self, robot: str | None = None) -> RobotProfile:
        """Return the profile of a robot, or without one that which the recorder noted.

        Raises:
            BagReadError: it noted none.
            ProfileError: the profile is not valid.
        """
        if robot is not None:
            return load_profile(robot)
        if 'profile' not in self.notes:
            raise BagReadError(f'{self.path} names no robot profile; give one with --robot')
        return parse_profile(self.notes['profile'], f'the profile in {self.path} (--robot gives another)')

    def resolve(self, topic: str) -> str:
        """Return the full name of a topic that is relative to the namespace of the recorded graph."""
        return topic if topic.startswith('/') else f'/{self.namespace}/{topic}'.replace('//', '/')

    def has(self, topic: str) -> bool:
        """Whether there is a message on a topic."""
        found = self.topics.get(self.resolve(topic))
        return found is not None and found.count > 0

    def image_topic(self, camera: Camera) -> str | None:
        """Return where a camera's images are, as the profile says or in the other form; None: nowhere."""
        raw, compressed = camera.image_topic, f'{camera.image_topic}/compressed'
        names = (raw, compressed) if camera.topic == raw else (compressed, raw)
        return next((name for name in names if self.has(name)), None)

    def view(self, camera: Camera) -> CameraView:
        """Return what turns a camera's messages into data; it is rectified as the first CameraInfo in the bag says.

        Raises:
            BagReadError: the CameraInfo that is needed is missing or damaged.
        """
        if camera not in self._views:
            view = CameraView(camera)
            if camera.rectify:
                _, _, info = next(self.messages(camera.info_topic), (None, None, None))
                if info is None:
                    raise BagReadError(
                        f'{self.path} has no message on {self.resolve(camera.info_topic)}, and {camera.name} is to be '
                        'rectified; record it, or leave rectify out of the profile'
                    )
                view.calibrate(info)
            self._views[camera] = view
        return self._views[camera]

    def messages(
        self, *topics: str, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic as given, log time in ns, message) of these topics in the order in which they were received.

        Names are relative to the graph's namespace; a topic that is not in the bag yields nothing. `start_ns` and
        `stop_ns` limit the log times.

        Raises:
            BagReadError: the bag is damaged, a message is not what its type says, or another version of this package
                recorded it with other fields.
        """
        names = {self.resolve(topic): topic for topic in topics}
        for connection, log_ns, data in self._records(names, start_ns, stop_ns):
            if fields := self._lacking.get(connection.msgtype):
                raise BagReadError(
                    f'{self.path}: {connection.topic} has {connection.msgtype} of another version of lingbot_va, which '
                    f'lacks {fields}; read the bag with the version that recorded it, or record again'
                )
            try:
                message = self._decode(data, connection.msgtype)
            except Exception as error:  # whatever a wrong layout leads to
                raise BagReadError(
                    f'{self.path}: the message on {connection.topic} at {instant(log_ns)} cannot be read as '
                    f'{connection.msgtype}: {reason(error)}'
                ) from error
            yield names[connection.topic], log_ns, message

    def arrivals(self, *topics: str) -> Iterator[tuple[str, int]]:
        """Yield (topic as given, log time in ns) as `messages` does, also of types that nobody here knows."""
        names = {self.resolve(topic): topic for topic in topics}
        for connection, log_ns, _ in self._records(names, None, None):
            yield names[connection.topic], log_ns

    def _records(
        self, names: Collection[str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Any, int, bytes]]:
        connections = [connection for connection in self._connections if connection.topic in names]
        if not connections:
            return
        source = self._reader.messages(connections, start_ns, stop_ns)
        last: tuple[str, int] | None = None
        while True:
            try:
                connection, log_ns, data = next(source)
            except StopIteration:
                return
            except Exception as error:  # of the library or of the compression
                place = f' after {last[0]} at {instant(last[1])}' if last else ''
                raise BagReadError(f'{self.path} is damaged{place}: {reason(error)}{self._remedy()}') from error
            last = connection.topic, log_ns
            yield connection, log_ns, data


def nanoseconds(time: Any) -> int:
    """Return a builtin_interfaces Time or Duration in nanoseconds."""
    return time.sec * NANOSECONDS + time.nanosec


def instant(ns: int) -> str:
    """Write an instant for people: seconds, and what they mean on a calendar if they can be one."""
    seconds = f'{ns / NANOSECONDS:.3f} s'
    if ns < 10**9 * NANOSECONDS:  # a simulated clock
        return seconds
    return f'{seconds} ({datetime.fromtimestamp(ns / NANOSECONDS, timezone.utc):%Y-%m-%d %H:%M:%S} UTC)'


def reason(error: Exception) -> str:
    """Say what went wrong, in one line."""
    lines = str(error).split('\n')
    known = isinstance(error, (AnyReaderError, ReaderError, OSError, ValueError)) and lines[0]
    return lines[0].rstrip('.') if known else f'{type(error).__name__} {lines[0]}'.strip()


def _lacking(types: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of fields that a bag's own definitions of our messages do not have, by type."""
    found = {}
    for kind, (_, fields) in message_types().fielddefs.items():
        if kind.startswith('lingbot_va_msgs/') and kind in types:
            _, recorded = types[kind]
            if missing := [name for name, form in fields if (name, form) not in recorded]:
                found[kind] = ', '.join(missing)
    return found


def _notes(place: Path) -> dict[str, str]:
    """Return the custom data in metadata.yaml, beside a file or in a folder."""
    path = (place if place.is_dir() else place.parent) / 'metadata.yaml'
    if not path.exists():
        return {}
    try:
        document = yaml.safe_load(path.read_text())
        return dict(document['rosbag2_bagfile_information'].get('custom_data') or {})
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise BagReadError(f'{path} cannot be read: {reason(error)}') from error
