"""Drives lifecycle nodes through their services, each step with a deadline."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.task import Future

from lingbot_va_ros.client_node import ClientNode

GOALS = {
    'configure': (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
    'activate': (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
    'deactivate': (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
    'cleanup': (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
}
POLL_S = 0.02
PROBE_S = 1.0  # a transition that takes longer is also followed by `get_state`: replies of services can be lost


class LifecycleClient:
    """Clients of the lifecycle services of some nodes, in an rclpy context of their own.

    All methods belong to one thread and call `check` while they wait; what it raises ends the wait.
    """

    def __init__(self, names: Iterable[str], namespace: str, check: Callable[[], None]) -> None:
        self.check = check
        self._client = ClientNode('bringup', namespace)
        self._change = {name: self._client.node.create_client(ChangeState, f'{name}/change_state') for name in names}
        self._state = {name: self._client.node.create_client(GetState, f'{name}/get_state') for name in names}

    def close(self) -> None:
        """Leave the graph."""
        self._client.close()

    def wait_until_up(self, name: str, timeout: float) -> bool:
        """Wait for the lifecycle services of a node, in seconds; return whether they are there."""
        return self._spin_until(lambda: self.is_up(name), timeout)

    def wait_for_successor(self, name: str, timeout: float) -> bool:
        """Wait until a node answers that was started again; return whether it does, and can be configured.

        The services of a process that was killed seem to be there for a while, and so does a new process before all of
        its services are connected; a request that is sent then is lost.
        """
        deadline = time.monotonic() + timeout
        while self.state(name, PROBE_S) != State.PRIMARY_STATE_UNCONFIGURED:
            if time.monotonic() >= deadline:
                return False
        return True

    def is_up(self, name: str) -> bool:
        """Whether the lifecycle services of a node are there."""
        return self._change[name].service_is_ready() and self._state[name].service_is_ready()

    def state(self, name: str, timeout: float) -> int | None:
        """Return the state of a node (lifecycle_msgs/State ids), or None when it does not answer in time."""
        response = self._call(self._state[name], GetState.Request(), timeout)
        return response.current_state.id if response else None

    def begin(self, name: str, transition: str) -> Future:
        """Ask for a transition without waiting for it."""
        request = ChangeState.Request()
        request.transition.id, _ = GOALS[transition]
        return self._change[name].call_async(request)

    def finish(self, name: str, transition: str, future: Future, timeout: float) -> bool | None:
        """Wait for a transition; return whether the node made it, or None when it did not answer in time."""
        goal = GOALS[transition][1]
        deadline = time.monotonic() + timeout
        before = None
        while not self._spin_until(future.done, min(PROBE_S, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                self._change[name].remove_pending_request(future)
                return None
            state = self.state(name, PROBE_S)
            if future.done():
                break
            if state == goal:
                self._change[name].remove_pending_request(future)
                return True
            if state is not None and state == before:  # it is not busy: the request was lost
                self._change[name].remove_pending_request(future)
                future = self.begin(name, transition)
                state = None
            before = state
        return future.result().success

    def _call(self, client: Client, request: Any, timeout: float) -> Any | None:
        future = client.call_async(request)
        if self._spin_until(future.done, timeout):
            return future.result()
        client.remove_pending_request(future)
        return None

    def _spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() >= deadline:
                return False
            self._client.executor.spin_once(timeout_sec=POLL_S)
        return True
