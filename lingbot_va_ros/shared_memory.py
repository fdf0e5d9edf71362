"""Removes the shared memory that killed processes have left behind."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

FOLDER = Path('/dev/shm')
LOCK_SUFFIX = '_el'
MIN_AGE_S = 10.0  # a process that is just starting may not have locked its file yet


def remove_stale_segments(folder: Path = FOLDER) -> int:
    """Delete Fast DDS segments whose owner has ended, 17 MB each; return how many.

    The owner of `fastrtps_<id>` holds a lock on `fastrtps_<id>_el`, which the kernel releases when it dies. Segments of
    other users are left alone.
    """
    removed = 0
    for lock in folder.glob(f'fastrtps_*{LOCK_SUFFIX}'):
        segment = lock.with_name(lock.name.removesuffix(LOCK_SUFFIX))
        if segment.name.startswith('fastrtps_port'):  # shared by several processes, small, and taken over by the next
            continue
        with contextlib.suppress(OSError):
            if time.time() - lock.stat().st_mtime > MIN_AGE_S and not _is_locked(lock):
                segment.unlink(missing_ok=True)
                lock.unlink()
                removed += 1
    return removed


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
