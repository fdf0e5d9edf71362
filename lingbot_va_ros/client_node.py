"""A node that only asks others, in an rclpy context of its own, so that it can live beside any other node."""

import os

from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node


class ClientNode:
    """`node`, and the `executor` to spin it with; `with ClientNode('reader') as client: ...`."""

    def __init__(self, purpose: str, namespace: str = '') -> None:
        self._context = Context()
        self._context.init()
        self.node = Node(
            f'{purpose}_{os.getpid()}', context=self._context, namespace=namespace or None, use_global_arguments=False,
            enable_rosout=False, start_parameter_services=False,
        )  # fmt: skip
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)

    def __enter__(self) -> 'ClientNode':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the graph."""
        self.executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()
