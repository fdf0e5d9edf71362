"""One node's operating-system process: started, listened to, and ended for certain."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from lingbot_va_ros.node_table import NodeSpec

KEPT_LINES = 200
LAST_WORDS = 10  # lines before its end that may say why a process ended
# Each signal and how long the process may take to follow it, s.
ENDING = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
LOG_PREFIX = re.compile(r'^\[(?P<level>[A-Z]+)\] \[[\d.]+\] \[[^\]]*\]: ')


class NodeProcess:
    """A node in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone.

    The thread that creates it must outlive it: the kernel ends the process when that thread ends.

    Args:
        spec: what to start.
        arguments: for the module, `--ros-args` included.
        environment: complete.
        on_line: called in a thread of this object with each line of output.
    """

    def __init__(
        self, spec: NodeSpec, arguments: list[str], environment: dict[str, str], on_line: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)
        self._count = 0
        self._swept = False
        self._on_line = on_line
        command = [sys.executable, '-m', 'lingbot_va_ros.supervised', str(os.getpid()), str(spec.nice), spec.module]
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f'{spec.name} output', daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id, also that of its group and session."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, else the exit code, negative for a signal."""
        return self._process.poll()

    @property
    def lines_seen(self) -> int:
        """Number of lines of output so far, to ask for later ones."""
        return self._count

    def describe_exit(self) -> str:
        """Say how it ended, and its last words."""
        self._collect_leftovers()
        code = self.returncode
        if code is None:
            return 'is running'
        if code < 0:
            return f'was ended by signal {signal.Signals(-code).name}'
        reason = self.last_words(since=self._count - LAST_WORDS)
        return f'exited with code {code}' + (f': {reason}' if reason else '')

    def last_words(self, since: int = 0, errors_only: bool = False) -> str:
        """Return the newest error after line `since` of its log, or the newest line of all, without ROS prefix."""
        lines = [line for number, line in list(self._lines) if number >= since and line.strip()]
        matches = [(match, line) for line in lines if (match := LOG_PREFIX.match(line))]
        errors = [line[match.end() :] for match, line in matches if match['level'] in ('ERROR', 'FATAL')]
        if errors or errors_only:
            return errors[-1] if errors else ''
        return LOG_PREFIX.sub('', lines[-1]) if lines else ''

    def end(self, hurry: threading.Event, loading: bool = False) -> str:
        """End it by ever stronger signals and return the name of the last one.

        Args:
            hurry: once set, kill it.
            loading: it may still import modules, where SIGINT ends in a traceback; begin with SIGTERM.
        """
        sent = ''
        for number, patience in ENDING[1 if loading else 0 :]:
            if self.returncode is not None:
                break
            if hurry.is_set() and number != signal.SIGKILL:
                continue
            sent = number.name
            self._signal_group(number)
            self._wait(patience, hurry if number != signal.SIGKILL else None)
        self._collect_leftovers()
        return sent

    def _wait(self, patience: float, hurry: threading.Event | None) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not (hurry and hurry.is_set()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
                return

    def _collect_leftovers(self) -> None:
        """After its end: end what it had started itself and take in the rest of its output."""
        if self.returncode is not None and not self._swept:
            self._swept = True
            self._signal_group(signal.SIGKILL)
            self._reader.join(1.0)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _read(self) -> None:
        with self._process.stdout:
            for raw in self._process.stdout:
                line = raw.decode(errors='replace').rstrip('\r\n')
                self._lines.append((self._count, line))
                self._count += 1
                self._on_line(line)
