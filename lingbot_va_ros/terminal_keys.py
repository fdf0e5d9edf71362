"""Single keys from the terminal that a command runs in, without waiting for the return key."""

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


class TerminalKeys:
    """Reads what was typed; use it through `terminal_keys`."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    @property
    def available(self) -> bool:
        """Whether there is a terminal, so that keys can come."""
        return self._descriptor is not None

    def read(self) -> str:
        """Return the keys that were pressed since the last call; never waits."""
        keys = ''
        while self._descriptor is not None and _in_foreground(self._descriptor):
            if not select.select([self._descriptor], [], [], 0)[0]:
                break
            typed = os.read(self._descriptor, 64)
            if not typed:  # the terminal is gone
                self._descriptor = None
            keys += typed.decode(errors='ignore')
        return keys


@contextmanager
def terminal_keys() -> Iterator[TerminalKeys]:
    """Give the keys of standard input, if that is a terminal that this process is in the foreground of.

    Ctrl-C goes on to send SIGINT. Keys are not echoed; the terminal's settings come back after the block.
    """
    descriptor = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
    if descriptor is None or not _in_foreground(descriptor):
        yield TerminalKeys(None)
        return
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield TerminalKeys(descriptor)
    finally:
        if _in_foreground(descriptor):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _in_foreground(descriptor: int) -> bool:
    """Whether reading does not stop this process, as it does one in the background."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
