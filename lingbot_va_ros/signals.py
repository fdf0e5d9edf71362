"""What a supervising command does when it is asked to end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def when_asked_to_end(handle: Callable[[], None]) -> Iterator[None]:
    """Call `handle` at every SIGINT, SIGTERM and SIGHUP within the block; the handlers of before come back after it."""
    before = {number: signal.signal(number, lambda *_: handle()) for number in ASKED_TO_END}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
