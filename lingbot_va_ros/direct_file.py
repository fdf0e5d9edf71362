"""A file that grows past the page cache: a bag of gigabytes costs a tenth of the processor time and evicts nothing."""

import io
import mmap
import os
from pathlib import Path

BLOCK = 4096  # what every disk accepts as a unit of direct writes
CAPACITY = 2**22  # bytes that are gathered


class DirectFile(io.RawIOBase):
    """Appends to an existing file, in whole blocks from one buffer that is allocated once.

    After `flush` all that was written is in the file, and the file ends with it. Where a file system has no direct
    writes, they are ordinary ones.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; what is in it stays.

        Raises:
            OSError: it cannot be opened.
        """
        size = path.stat().st_size
        self._start = size // BLOCK * BLOCK  # of the buffer in the file
        with path.open('rb') as file:
            file.seek(self._start)
            tail = file.read()
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        except OSError:
            self._fd = os.open(path, os.O_WRONLY)
        self._buffer = mmap.mmap(-1, CAPACITY)  # begins at a page, as direct writes require
        self._buffer[: len(tail)] = tail
        self._filled = len(tail)

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the length of the file, with what is in the buffer."""
        return self._start + self._filled

    def write(self, data: bytes | memoryview) -> int:
        """Append all of `data`.

        Raises:
            OSError: the disk is full or fails.
            ValueError: the file is closed.
        """
        if self.closed:
            raise ValueError('the file is closed')
        rest = memoryview(data).cast('B')
        size = len(rest)
        while rest:
            part = rest[: CAPACITY - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rest = rest[len(part) :]
            if self._filled == CAPACITY:
                self._put(CAPACITY)
                self._start += CAPACITY
                self._filled = 0
        return size

    def flush(self) -> None:
        """Put what is in the buffer into the file.

        Raises:
            OSError: the disk is full or fails.
        """
        whole = self._filled // BLOCK * BLOCK
        self._put(-(-self._filled // BLOCK) * BLOCK)
        os.ftruncate(self._fd, self.tell())
        rest = self._buffer[whole : self._filled]
        self._buffer[: len(rest)] = rest
        self._start += whole
        self._filled = len(rest)

    def close(self) -> None:
        """Flush and close."""
        if not self.closed:
            try:
                super().close()  # flushes
            finally:
                os.close(self._fd)

    def _put(self, size: int) -> None:
        """Write the first bytes of the buffer, whole blocks, to their place."""
        with memoryview(self._buffer) as view:
            done = 0
            while done < size:  # a disk that becomes full may take a part
                done += os.pwrite(self._fd, view[done:size], self._start + done)
