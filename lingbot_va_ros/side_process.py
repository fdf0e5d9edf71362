"""Processes that stand beside the graph: the recorder and the viewer."""

import sys
import threading
import time
from collections.abc import Callable

from lingbot_va_ros.node_process import NodeProcess
from lingbot_va_ros.node_table import NodeSpec
from lingbot_va_ros.recorder import MISSING, READY
from lingbot_va_ros.ros_environment import child_environment

POLL_S = 0.1


class SideProcessError(RuntimeError):
    """A recorder or viewer that did not do its work, in one line."""


class SideProcess:
    """A module of ours in a process that ends with this one; `with SideProcess(...) as process: ...`.

    Args:
        name: for people.
        module: with a `main`, which SIGINT ends.
        arguments: of its command line.
        log: receives each line of its output, in another thread.
    """

    def __init__(self, name: str, module: str, arguments: list[str], log: Callable[[str], None]) -> None:
        self.name = name
        self._spec = NodeSpec(name, '', module, order=0, nice=5)
        self._arguments, self._log = arguments, log

    def __enter__(self) -> 'SideProcess':
        environment = child_environment(sys.path)
        self._process = NodeProcess(self._spec, self._arguments, environment, self._heard)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.end(hurry=threading.Event())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def finish(self) -> None:
        """Ask it to end and wait for that.

        Raises:
            SideProcessError: it had ended before, or ended with an error.
        """
        if not self.running:
            raise SideProcessError(f'the {self.name} {self._process.describe_exit()}')
        self._process.end(hurry=threading.Event())
        if self._process.returncode:
            raise SideProcessError(f'the {self.name} {self._process.describe_exit()}')

    def _heard(self, line: str) -> None:
        self._log(f'[{self.name}] {line}')


class Recorder(SideProcess):
    """`lingbot-va record` beside the graph."""

    def __init__(self, arguments: list[str], log: Callable[[str], None]) -> None:
        super().__init__('recorder', 'lingbot_va_ros.recorder', arguments, log)
        self._ready = threading.Event()
        self._missing = ''

    def wait_until_ready(self, timeout_s: float, check: Callable[[], None]) -> None:
        """Wait until every topic is matched, calling `check` meanwhile.

        Raises:
            SideProcessError: it ended, or topics have no publisher after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready.wait(POLL_S):
            check()
            if not self.running:
                raise SideProcessError(f'the recorder {self._process.describe_exit()}')
            if time.monotonic() > deadline:
                lacking = self._missing or 'some topic'
                raise SideProcessError(f'nobody publishes {lacking}, {timeout_s:g} s after all nodes became active')

    def _heard(self, line: str) -> None:
        if line == READY:
            self._ready.set()
        elif line.startswith(MISSING):
            self._missing = line.removeprefix(MISSING)
        super()._heard(line)
