"""A ROS node for tests, spun by a thread, and what tests of processes share."""

import threading
import time
from collections.abc import Callable
from typing import Any

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

    def _spin(self) -> None:
        while not self._stopping.is_set():
            try:
                self._executor.spin_once(timeout_sec=0.1)
            except Exception as error:  # raised again in the test
                self._errors.append(error)
                self._stopping.set()
            with self._changed:
                self._changed.notify_all()
