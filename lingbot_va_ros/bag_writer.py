"""Writes a rosbag2 bag (MCAP) in a thread of its own, behind a queue that never blocks the one who fills it."""

import contextlib
import json
import shutil
import threading
import time
from collections import Counter, deque
from pathlib import Path

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from lingbot_va_ros.direct_file import DirectFile
from lingbot_va_ros.message_types import message_types

QUEUE_BYTES = 64 * 2**20
FLUSH_S = 1.0  # what is older is in the file, should this process be killed
COMPRESSED_RATE = 32 * 2**20  # bytes per second up to which compressing costs little; more is written as it is
PLAIN = '', bytes  # as the library has it: name in the file, function
METADATA_VERSION = 8  # what Humble to Kilted read
UNSET = QosTime(0, 0)


class BagError(ValueError):
    """A bag that cannot be written, in one line."""


class BagWriter:
    """A bag that appears at `path` whole, on `close`, or not at all; until then it grows in `<path>.partial`.

    Messages wait in a queue of at most `queue_bytes`; what does not fit is counted in `dropped` (topic: messages). What
    is in `<path>.partial` can be read with `bag_recovery`, up to FLUSH_S before the end.

    Attributes:
        metadata: what goes into the bag's metadata on `close`; more may be added.
    """

    def __init__(self, path: Path, metadata: dict[str, str], queue_bytes: int = QUEUE_BYTES) -> None:
        """Open the bag and start writing.

        Raises:
            BagError: something lies at `path` or at `<path>.partial` already, or the folder cannot be made.
        """
        self.path = path.absolute()
        self.partial = self.path.with_name(f'{self.path.name}.partial')
        for taken in (self.path, self.partial):
            if taken.exists():
                raise BagError(f'{taken} exists already; remove it or choose another place')
        self.dropped: Counter[str] = Counter()
        self.written = 0
        self._queue_bytes = queue_bytes
        self._queued_bytes = 0
        self._queue: deque[tuple[int, int, bytes]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._error: Exception | None = None
        self._connections: list = []
        # The bag's file carries the name of its folder, so that the final name is there from the beginning.
        self._writer = Writer(
            self.partial / self.path.name, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP
        )
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self.metadata = metadata
        try:
            self._writer.open()
            storage = self._writer.storage
            storage.bio.close()
            storage.bio = DirectFile(storage.path)
            self._compression = storage.compression, storage.compressor
        except OSError as error:
            raise BagError(f'{self.path} cannot be written: {error.strerror}') from error
        self._thread = threading.Thread(target=self._write, name='bag writer')
        self._thread.start()

    def add_topic(self, name: str, type_name: str, qos: QoSProfile) -> int:
        """Add a topic by its resolved name and return its number for `put`; only before the first `put`."""
        self._connections.append(
            self._writer.add_connection(
                name, type_name, typestore=message_types(), offered_qos_profiles=[_bag_qos(qos)]
            )
        )
        return len(self._connections) - 1

    def put(self, topic: int, stamp_ns: int, data: bytes) -> None:
        """Queue one serialized message, or count it as dropped when the queue is full. Never waits for the disk."""
        with self._changed:
            if self._queued_bytes + len(data) > self._queue_bytes or self._closing:
                self.dropped[self._connections[topic].topic] += 1
                return
            self._queue.append((topic, stamp_ns, data))
            self._queued_bytes += len(data)
            self._changed.notify()

    def check(self) -> None:
        """Raise BagError when writing has failed."""
        if self._error is not None:
            raise BagError(
                f'writing failed: {self._error}; `lingbot-va record --recover {self.partial} --out {self.path}` makes '
                'a bag of what was written'
            ) from self._error

    def close(self) -> None:
        """Write what is queued, complete the bag and move it to `path`.

        Raises:
            BagError: writing failed; the incomplete bag stays in `<path>.partial`.
        """
        self._join()
        try:
            if self._error is None:
                self._complete()
        except OSError as error:
            self._error = error
        if self._error is not None:
            with contextlib.suppress(OSError):  # of a disk that is still full
                self._writer.abort()
        self.check()

    def discard(self) -> None:
        """Remove what was written."""
        self._join()
        self._writer.abort()
        shutil.rmtree(self.partial)

    def _complete(self) -> None:
        for key, value in {**self.metadata, 'dropped': json.dumps(self.dropped)}.items():
            self._writer.set_custom_data(key, value)
        self._writer.close()
        self._writer.path.rename(self.path)
        self.partial.rmdir()

    def _join(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _write(self) -> None:
        try:
            flush_at, recent = time.monotonic() + FLUSH_S, 0
            while True:
                with self._changed:
                    wait_s = flush_at - time.monotonic()
                    self._changed.wait_for(lambda: self._queue or self._closing, max(wait_s, 0.0))
                    batch = list(self._queue)
                    self._queue.clear()
                    if not batch and self._closing:
                        return
                if time.monotonic() >= flush_at:
                    self._flush(recent <= COMPRESSED_RATE * FLUSH_S)
                    flush_at, recent = time.monotonic() + FLUSH_S, 0
                for topic, stamp_ns, data in batch:
                    self._writer.write(self._connections[topic], stamp_ns, data)
                    self.written += 1
                    recent += len(data)
                    with self._changed:
                        self._queued_bytes -= len(data)  # only now: a batch in work counts as queued
        except Exception as error:  # a full disk above all; the thread that fills the queue reports it
            self._error = error

    def _flush(self, compress: bool) -> None:
        """Put into the file what the library would keep until a megabyte has come together, and choose how to go on."""
        storage = self._writer.storage
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()
        storage.compression, storage.compressor = self._compression if compress else PLAIN


def _bag_qos(qos: QoSProfile) -> Qos:
    reliable = qos.reliability == ReliabilityPolicy.RELIABLE
    latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=UNSET,
        lifespan=UNSET,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=UNSET,
        avoid_ros_namespace_conventions=False,
    )
