"""The operator's topics: emergency stop, enable and speed scale."""

import math
import time
from collections.abc import Callable
from typing import Any

from rclpy.qos import QoSProfile
from std_msgs.msg import Bool, Float64

from lingbot_va_ros import qos
from lingbot_va_ros.arming import Arming
from lingbot_va_ros.managed_node import ManagedNode


class OperatorInputs:
    """Subscribes a node to what its operator says, from configure to cleanup, active or not.

    An emergency stop that was pressed before the node became active counts. It is heard from publishers of either
    durability, which takes two subscriptions: a transient-local one does not match volatile publishers, and a volatile
    one does not get what was latched before it. The same goes for the speed scale. `enable` must be fresh, so what was
    latched by it means nothing.
    """

    def __init__(self, node: ManagedNode, arming: Arming, changed: Callable[[], None]) -> None:
        self._node, self._arming, self._changed = node, arming, changed
        for profile in (qos.PRESSES, qos.LATCHED_PRESSES):
            self._subscribe(Bool, 'e_stop', self._on_e_stop, profile)
        for profile in (qos.OPERATOR, qos.LATCHED):
            self._subscribe(Float64, 'speed_scale', self._on_speed_scale, profile)
        self._subscribe(Bool, 'enable', self._on_enable, qos.OPERATOR)

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None], profile: QoSProfile) -> None:
        subscription = self._node.create_subscription(kind, topic, callback, profile)
        self._node.on_teardown(lambda: self._node.destroy_subscription(subscription))

    def _on_e_stop(self, message: Bool) -> None:
        if message.data and not self._arming.e_stop:
            self._node.get_logger().error('emergency stop')
        self._arming.on_e_stop(message.data)
        self._changed()

    def _on_enable(self, message: Bool) -> None:
        self._arming.on_enable(message.data, time.monotonic_ns())
        self._changed()

    def _on_speed_scale(self, message: Float64) -> None:
        before = self._arming.speed_scale
        if refusal := self._arming.on_speed_scale(message.data):
            self._node.get_logger().error(refusal, throttle_duration_sec=1.0)
        elif not math.isclose(before, message.data):
            self._node.get_logger().info(f'speed_scale is {message.data:g}')
        self._changed()
