"""Reads parameters of running nodes."""

import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python

from lingbot_va_ros.client_node import ClientNode

PATIENCE_S = 10.0
POLL_S = 0.05


class ParametersError(RuntimeError):
    """A node that does not answer, or has no such parameter."""


def read_parameters(
    node_name: str, names: list[str], namespace: str = '', check: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Ask one node for some of its parameters, calling `check` while it waits.

    Raises:
        ParametersError: the node does not answer in time, or one of them is not set.
    """
    with ClientNode('parameter_reader', namespace) as asker:
        client = asker.node.create_client(GetParameters, f'{node_name}/get_parameters')
        deadline = time.monotonic() + PATIENCE_S

        def wait_for(condition: Callable[[], bool]) -> None:
            while not condition():
                check()
                if time.monotonic() > deadline:
                    raise ParametersError(f'{node_name} did not tell its parameters within {PATIENCE_S:g} s')
                asker.executor.spin_once(timeout_sec=POLL_S)

        wait_for(client.service_is_ready)
        future = client.call_async(GetParameters.Request(names=names))
        wait_for(future.done)
        values = dict(zip(names, map(parameter_value_to_python, future.result().values), strict=False))
    unset = [name for name in names if values.get(name) is None]
    if unset:
        raise ParametersError(f'{node_name} has no parameter {", ".join(unset)}')
    return values
