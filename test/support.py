"""What tests of the graph share: a ROS node spun by a thread, programs that run beside it, and their processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile


class Graph:
    """A node in an rclpy context of its own, `node`, whose callbacks run in a thread until the `with` block ends."""

    def __init__(self, name: str = 'test', namespace: str = '') -> None:
        self._context = Context()
        self._context.init()
        self.node = Node(name, context=self._context, namespace=namespace or None, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._errors: list[Exception] = []
        self._thread = threading.Thread(target=self._spin, name='test graph', daemon=True)
        self._thread.start()

    def __enter__(self) -> 'Graph':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        if self._errors and exception[0] is None:
            raise self._errors[0]

    def close(self) -> None:
        """Leave the ROS graph."""
        self._stopping.set()
        self._executor.wake()
        self._thread.join(5.0)
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def wait_for(self, predicate: Callable[[], Any], timeout: float = 10.0, what: str = '') -> Any:
        """Wait until `predicate` is true, looking again after each callback; return its value.

        Raises:
            TimeoutError: it stayed false for `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (value := predicate()):
                if self._errors:
                    raise self._errors[0]
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise TimeoutError(f'{what or "the condition"} did not come true within {timeout:g} s')
                self._changed.wait(min(remaining, 0.05))
        return value

    def collect(self, topic: str, kind: type, qos: QoSProfile | int = 10) -> list[Any]:
        """Subscribe; return the list to which every message is appended."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        self._executor.wake()
        return received

    def call(self, service: str, kind: type, request: Any = None, timeout: float = 10.0) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, service)
        try:
            self.wait_for(client.service_is_ready, timeout, f'service {service}')
            future = client.call_async(request or kind.Request())
            self.wait_for(future.done, timeout, f'the reply of {service}')
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change_state(self, name: str, *transitions: str) -> bool:
        """Take a lifecycle node through transitions ('configure', 'activate', ...); return whether all were made."""
        for transition in transitions:
            request = ChangeState.Request()
            request.transition.id = getattr(Transition, f'TRANSITION_{transition.upper()}')
            if not self.call(f'{name}/change_state', ChangeState, request, 60.0).success:
                return False
        return True

    def _spin(self) -> None:
        while not self._stopping.is_set():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except Exception as error:  # raised again in the test
                self._errors.append(error)
                self._stopping.set()
            with self._changed:
                self._changed.notify_all()


class Program:
    """A Python program of ours in a process of its own, whose output is read as it comes; killed at the block's end."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reading = True
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(path for path in sys.path if path), **(environment or {})},
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> 'Program':
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(5.0)

    @property
    def output(self) -> str:
        """Everything that it has printed so far."""
        return '\n'.join(self.lines)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait_for_line(self, text: str, timeout: float = 30.0) -> None:
        """Wait until it has printed a line that contains `text`."""
        with self._changed:
            seen = self._changed.wait_for(
                lambda: any(text in line for line in self.lines) or not self._reader.is_alive(), timeout
            )
        if not seen or text not in self.output:
            raise AssertionError(f'{text!r} was not printed within {timeout:g} s:\n{self.output}')

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end; return the exit status (negative: signal)."""
        status = self._process.wait(timeout)
        self._reader.join(5.0)
        return status

    def stop_reading(self) -> None:
        """Close the pipe at its next line of output."""
        self._reading = False

    def _read(self) -> None:
        with self._process.stdout:
            while self._reading and (line := self._process.stdout.readline()):
                with self._changed:
                    self.lines.append(line.rstrip('\n'))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def node_of(kind: type, *parameters: str) -> Iterator[Any]:
    """A node of ours in this process, not configured, with parameters given as 'name:=value'; nothing spins it."""
    rclpy.init(args=['--ros-args', *(part for parameter in parameters for part in ('-p', parameter))])
    try:
        node = kind()
        try:
            yield node
        finally:
            node._halt()
            node._release()
            node.destroy_node()
    finally:
        rclpy.shutdown()


def living(field: str, value: int) -> list[int]:
    """Ids of the living processes whose parent ('parent') or session ('session') is `value`; zombies do not live."""
    column = {'parent': 1, 'session': 3}[field]
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = stat.read_text().rsplit(')', 1)[1].split()
        except OSError:  # it has just ended
            continue
        if int(fields[column]) == value and fields[0] != 'Z':
            found.append(int(stat.parent.name))
    return found


def wait_until(predicate: Callable[[], Any], timeout: float = 10.0, what: str = 'the condition') -> Any:
    """Poll until `predicate` is true and return its value; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f'{what} did not come true within {timeout:g} s'
        time.sleep(0.02)
    return value
