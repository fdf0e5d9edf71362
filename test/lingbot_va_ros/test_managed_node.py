"""What every node shares: messages reach it while it is active, and what is latched is not lost to it."""

from collections.abc import Iterator

import pytest
import rclpy
from rclpy.duration import Duration
from std_msgs.msg import String
from support import Graph, wait_until

from lingbot_va_ros import qos
from lingbot_va_ros.managed_node import ManagedNode


class Listener(ManagedNode):
    """Notes what it hears on a latched topic and on one that is not."""

    def setup(self) -> None:
        self.heard: list[str] = []
        self.subscription(String, 'state', lambda message: self.heard.append(message.data), qos.LATCHED)
        self.subscription(String, 'stream', lambda message: self.heard.append(message.data), qos.STREAM)


@pytest.fixture
def listener(graph: Graph) -> Iterator[Listener]:
    rclpy.init()
    node = Listener('listener')
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_the_newest_latched_message_is_given_at_every_activation(graph: Graph, listener: Listener) -> None:
    listener.trigger_configure()
    topics = (('state', qos.LATCHED), ('stream', qos.STREAM))
    publishers = [graph.node.create_publisher(String, *topic) for topic in topics]

    def say(text: str) -> None:
        for publisher in publishers:
            publisher.publish(String(data=text))
            assert publisher.wait_for_all_acked(Duration(seconds=10))
            rclpy.spin_once(listener, timeout_sec=1.0)

    wait_until(lambda: all(publisher.get_subscription_count() == 1 for publisher in publishers))
    say('old')
    say('new')
    assert listener.heard == []
    listener.trigger_activate()
    assert listener.heard == ['new']
    say('newer')
    assert listener.heard == ['new', 'newer', 'newer']
    listener.trigger_deactivate()
    listener.trigger_activate()
    assert listener.heard == ['new', 'newer', 'newer', 'newer']
    listener.trigger_deactivate()
    listener.trigger_cleanup()
    listener.trigger_configure()
    listener.trigger_activate()
    wait_until(lambda: rclpy.spin_once(listener, timeout_sec=0.1) or listener.heard == ['newer'])  # from the publisher
