"""Makes a bag of what a recorder wrote that was killed, or whose disk was full."""

import json
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, ReaderError, StoragePlugin, Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.rosbag2.storage_mcap import decompress, read_bytes, read_exact, read_string
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from lingbot_va_ros.bag_writer import METADATA_VERSION, BagError
from lingbot_va_ros.recording_events import NOTES_TOPIC

MAGIC = b'\x89MCAP0\r\n'
HEADER = struct.Struct('<BQ')  # of a record: opcode, length
MESSAGE = struct.Struct('<HIQQ')  # channel, sequence, log time, publish time
CHUNK = struct.Struct('<QQQI')  # first and last log time, size, checksum
SCHEMA_RECORD, CHANNEL_RECORD, MESSAGE_RECORD, CHUNK_RECORD, END_RECORD = 3, 4, 5, 6, 15
SEPARATOR = '=' * 80 + '\n'


@dataclass(frozen=True)
class Recovered:
    """What came of a recovery: the complete bag, its messages, and the bytes that could not be read."""

    path: Path
    messages: int
    lost_bytes: int


def is_incomplete(folder: Path) -> bool:
    """Tell whether a folder holds a recording that was not completed: MCAP files, but no metadata.yaml."""
    return bool(_files(folder)) and not any((file.parent / 'metadata.yaml').exists() for file in _files(folder))


def recover_bag(folder: Path, out: Path) -> Recovered:
    """Write a complete bag at `out` with every message that can be read from an incomplete one; that stays as it is.

    The records are read one after the other, without the index that is missing; damaged ones are left out. Bags of
    `ros2 bag record` (MCAP) can be recovered as well, also when they consist of several files.

    Args:
        folder: of the recorder, `<bag>.partial`, or any folder that holds the MCAP files.
        out: folder of the new bag; appears whole or not at all.

    Raises:
        BagError: there is no MCAP file or no message in `folder`, something lies at `out`, or it cannot be written.
    """
    files = _files(folder)
    if not files:
        raise BagError(f'{folder} holds no MCAP file; give the folder that the recorder wrote to')
    if out.exists():
        raise BagError(f'{out} exists already; remove it or choose another place')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as scratch:
            copy = _Copy(Path(scratch) / out.name)
            lost = sum(copy.add(file) for file in files)
            copy.close()
            if not copy.messages:
                raise BagError(f'{folder} holds no whole message; there is nothing to recover')
            shutil.move(Path(scratch) / out.name, out)
    except OSError as error:
        raise BagError(f'{out} cannot be written: {error.strerror or error}') from error
    return Recovered(out, copy.messages, lost)


class _Copy:
    """A bag in the making, from records."""

    def __init__(self, path: Path) -> None:
        self.messages = 0
        self._notes: dict[str, str] = {}
        self._types = get_typestore(Stores.EMPTY)
        self._topics: dict[tuple[str, str], Connection] = {}
        self._writer = Writer(path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()

    def add(self, file: Path) -> int:
        """Add all messages of a file; return how many bytes could not be read."""
        schemas: dict[int, tuple[str, str, str]] = {}
        channels: dict[int, Connection] = {}
        size, end, lost = file.stat().st_size, len(MAGIC), 0
        with file.open('rb') as stream:
            stream.seek(end)
            for opcode, record in _records(stream, size):
                end = stream.tell()
                if opcode == END_RECORD:  # only the index follows
                    return lost
                try:
                    for inner, content in _unpacked(opcode, record):
                        self._take(inner, content, schemas, channels)
                except (ReaderError, struct.error, KeyError, ValueError):  # damaged; others need not be
                    lost += len(record)
        return lost + size - end

    def close(self) -> None:
        """Complete the bag."""
        for key, value in self._notes.items():
            self._writer.set_custom_data(key, value)
        self._writer.close()

    def _take(
        self, opcode: int, content: bytes, schemas: dict[int, tuple[str, str, str]], channels: dict[int, Connection]
    ) -> None:
        stream = BytesIO(content)
        if opcode == MESSAGE_RECORD:
            channel, _, log_ns, _ = MESSAGE.unpack_from(content)
            data = memoryview(content)[MESSAGE.size :]
            self._writer.write(channels[channel], log_ns, data)
            self.messages += 1
            if channels[channel].topic.split('/')[-1] == NOTES_TOPIC:
                self._notes = json.loads(self._types.deserialize_cdr(bytes(data), channels[channel].msgtype).data)
        elif opcode == SCHEMA_RECORD:
            (number,) = struct.unpack('<H', read_exact(stream, 2))
            schemas[number] = (read_string(stream), read_string(stream), read_string(stream))
        elif opcode == CHANNEL_RECORD:
            number, schema = struct.unpack('<HH', read_exact(stream, 4))
            topic, encoding, notes = read_string(stream), read_string(stream), BytesIO(read_bytes(stream))
            qos = ''
            while notes.tell() < len(notes.getbuffer()):
                key, value = read_string(notes), read_string(notes)
                qos = value if key == 'offered_qos_profiles' else qos
            channels[number] = self._topic(topic, encoding, qos, *schemas[schema])

    def _topic(self, topic: str, serialization: str, qos: str, kind: str, encoding: str, text: str) -> Connection:
        if (topic, kind) not in self._topics:
            if kind not in self._types.fielddefs:
                new = _definitions(kind, encoding, text)
                self._types.register({name: new[name] for name in new if name not in self._types.fielddefs})
            self._topics[topic, kind] = self._writer.add_connection(
                topic,
                kind,
                msgdef=text,
                rihs01=self._types.hash_rihs01(kind),
                serialization_format=serialization,
                offered_qos_profiles=parse_qos(qos),
            )
        return self._topics[topic, kind]


def _definitions(kind: str, encoding: str, text: str) -> dict:
    if encoding == 'ros2msg':
        return get_types_from_msg(text, kind)
    parts = [part.split('\n', 1)[1] for part in text.split(SEPARATOR)[1:]]
    return {name: fields for part in parts or [text] for name, fields in get_types_from_idl(part).items()}


def _unpacked(opcode: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the records in a chunk, or the record itself."""
    if opcode != CHUNK_RECORD:
        yield opcode, content
        return
    stream = BytesIO(content)
    _, _, size, checksum = CHUNK.unpack(read_exact(stream, CHUNK.size))
    compression = read_string(stream)
    (length,) = struct.unpack('<Q', read_exact(stream, 8))
    try:
        content = decompress(read_exact(stream, length), compression, size, checksum)
    except Exception as error:  # each compression has exceptions of its own
        raise ReaderError(str(error)) from error
    yield from _records(BytesIO(content), size)


def _records(stream: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole records of a stream of `size` bytes: opcode and content."""
    while len(header := stream.read(HEADER.size)) == HEADER.size:
        opcode, length = HEADER.unpack(header)
        if not opcode or length > size - stream.tell():
            return
        yield opcode, stream.read(length)


def _files(folder: Path) -> list[Path]:
    """Return the MCAP files in a folder, or in the one folder that is in it, in the order of their numbers."""
    found = sorted(folder.glob('*.mcap')) or sorted(folder.glob('*/*.mcap'))
    return sorted(found, key=lambda file: [int(number) for number in re.findall(r'\d+', file.stem)])
