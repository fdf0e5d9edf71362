"""The measuring of a running graph, against messages whose numbers are known."""

import os
import time
from itertools import count
from typing import Any

import pytest
from sensor_msgs.msg import Image
from support import wait_until

from lingbot_va_core.robot import load_profile
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand
from lingbot_va_ros.node_benchmark import CpuMeter, Monitor, bare_timer, percentiles
from lingbot_va_ros.qos import CHUNK, COMMAND, SENSOR

NANOSECONDS = 1_000_000_000


def stamped(message: Any, nanoseconds: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(nanoseconds, NANOSECONDS)
    return message


def test_rates_periods_and_lost_frames_come_from_the_stamps(graph: Any) -> None:
    profile = load_profile('aloha')
    clock, camera = profile.clock, profile.cameras[0]
    commands = graph.node.create_publisher(DualArmCommand, 'command', COMMAND)
    chunks = graph.node.create_publisher(ActionChunk, 'action_chunk', CHUNK)
    images = graph.node.create_publisher(Image, camera.image_topic, SENSOR)
    with Monitor(profile, '') as monitor:
        for publisher in (commands, chunks, images):
            graph.wait_for(lambda publisher=publisher: publisher.get_subscription_count() == 1)
        sent = count(1)  # best effort: images arrive only when both sides know each other

        def image_arrives() -> bool:
            images.publish(stamped(Image(), next(sent)))
            return bool(monitor._images[camera.name])

        wait_until(image_arrives)
        images.publish(stamped(Image(), last := next(sent)))
        wait_until(lambda: monitor._images[camera.name][-1] == last)
        monitor.clear()
        for index in range(9):
            commands.publish(stamped(DualArmCommand(), NANOSECONDS + index * clock.action_ns))
        for index in (0, 1, 2, 4):  # 3 is lost
            images.publish(stamped(Image(), NANOSECONDS + index * clock.video_ns))
        chunks.publish(ActionChunk(latent_frames=2, actions_per_latent=16, latency_ms=40.0, video_ms=20.0))
        assert monitor.chunk_seen.wait(10)
        wait_until(lambda: monitor.report()['cameras'][camera.name]['rate_hz'] == pytest.approx(0.75 * 12.5))
        wait_until(lambda: monitor.report()['command_rate_hz'] == pytest.approx(50.0))
        report = monitor.report()
        monitor.clear()
        empty = monitor.report()
    assert report['command_period_ms'] == pytest.approx({'p50': 20.0, 'p99': 20.0, 'max': 20.0})
    assert report['cameras'][camera.name]['lost'] == 1
    assert report['chunks'] == 1
    assert report['chunk_motion_ms'] == 640
    assert report['chunk_latency_ms']['p50'] == 40.0
    assert report['chunk_video_ms']['max'] == 20.0
    assert empty['command_rate_hz'] is None
    assert empty['chunk_latency_ms'] == {'p50': None, 'p99': None, 'max': None}


def test_processor_time_is_that_of_the_process() -> None:
    meter = CpuMeter({'busy': os.getpid(), 'idle': 1})
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    report = meter.report()
    assert 20 < report['busy']['cpu_percent'] < 400
    assert report['idle']['cpu_percent'] < 20
    assert report['busy']['memory_mib'] > 20


def test_a_bare_timer_keeps_its_period() -> None:
    assert bare_timer(20_000_000, seconds=0.5)['p50'] == pytest.approx(20.0, abs=5.0)


def test_percentiles_of_nothing_are_none() -> None:
    assert percentiles([]) == {'p50': None, 'p99': None, 'max': None}
