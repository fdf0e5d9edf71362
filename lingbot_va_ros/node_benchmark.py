"""Measures a running graph from its topics and from /proc."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import RobotProfile
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, ExecutedActions, LatentFrame
from lingbot_va_ros.conversions import to_ns
from lingbot_va_ros.latency_stages import LatencyStages, SentChunk
from lingbot_va_ros.recorded_topics import image_type

MILLISECOND = NANOSECONDS // 1000
DEPTH = 200  # far above what arrives between two turns of the measuring thread
RELIABLE = QoSProfile(depth=DEPTH)
SENSOR = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
PARTS = ('latency', 'grounding', 'video', 'action')  # of a chunk's making, ms


class Times(NamedTuple):
    """When a message was published and when it came, nanoseconds since the epoch."""

    published: int
    received: int


class Monitor:
    """Subscribes to a graph from an rclpy context of its own; `with Monitor(...) as monitor: ...`.

    Attributes:
        chunk_seen: set at the first action chunk.
    """

    def __init__(self, profile: RobotProfile, namespace: str) -> None:
        self.chunk_seen = threading.Event()
        self._profile = profile
        self._lock = threading.Lock()
        self._context = Context()
        self._context.init()
        self._node = Node(f'benchmark_{os.getpid()}', context=self._context, namespace=namespace or None,
                          use_global_arguments=False, enable_rosout=False, start_parameter_services=False)  # fmt: skip
        self._subscribe(DualArmCommand, 'command', RELIABLE, self._on_command)
        self._subscribe(LatentFrame, 'latents', RELIABLE, self._on_latent)
        self._subscribe(ExecutedActions, 'executed_actions', RELIABLE, self._on_executed)
        self._subscribe(ActionChunk, 'action_chunk', RELIABLE, self._on_chunk)
        self._subscribe(DiagnosticArray, '/diagnostics', RELIABLE, self._on_diagnostics)
        for camera in profile.cameras:
            self._subscribe(image_type(camera), camera.topic, SENSOR, self._on_image(camera.name))
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name='benchmark', daemon=True)
        self.clear()

    def __enter__(self) -> 'Monitor':
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def clear(self) -> None:
        """Forget what was received so far."""
        with self._lock:
            self._commands: list[int] = []
            self._latents: list[int] = []
            self._chunks: list[dict[str, float]] = []
            self._images: dict[str, list[int]] = {camera.name: [] for camera in self._profile.cameras}
            self._stages = LatencyStages()

    def report(self) -> dict[str, Any]:
        """Summarize what was received since `clear`; rates and periods are those of the header stamps."""
        with self._lock:
            commands, latents, chunks = self._commands.copy(), self._latents.copy(), self._chunks.copy()
            images = {name: stamps.copy() for name, stamps in self._images.items()}
            stages = self._stages.samples()
        video_ns = self._profile.clock.video_ns
        return {
            'command_rate_hz': _rate(commands),
            'command_period_ms': percentiles(np.diff(commands) / MILLISECOND),
            'images_per_s': sum(_rate(s) or 0.0 for s in images.values()),
            'cameras': {name: {'rate_hz': _rate(s), 'lost': lost_frames(s, video_ns)} for name, s in images.items()},
            'latents_rate_hz': _rate(latents),
            'chunks': len(chunks),
            'chunk_motion_ms': max((c['frames'] for c in chunks), default=0) * self._profile.clock.latent_ns / 1e6,
            **{f'chunk_{part}_ms': percentiles([chunk[part] for chunk in chunks]) for part in PARTS},
            'stages_ms': {name: percentiles(values) for name, values in stages.items()},
        }

    def _subscribe(self, kind: type, topic: str, qos: QoSProfile, receive: Callable[[Any, Times], None]) -> None:
        def locked(message: Any, info: dict[str, int]) -> None:
            with self._lock:
                receive(message, Times(info['source_timestamp'], info['received_timestamp']))

        self._node.create_subscription(kind, topic, locked, qos)

    def _on_command(self, command: DualArmCommand, times: Times) -> None:
        stamp = to_ns(command.header.stamp)
        self._commands.append(stamp)
        if command.action_index != DualArmCommand.HOLD:
            self._stages.command((command.episode, command.chunk), stamp, times.published)

    def _on_latent(self, latent: LatentFrame, times: Times) -> None:
        stamp = to_ns(latent.header.stamp)
        self._latents.append(stamp)
        if not latent.missing:
            self._stages.latent((latent.episode, latent.index), stamp, times.published, times.received)

    def _on_executed(self, executed: ExecutedActions, times: Times) -> None:
        end = to_ns(executed.video_stamps[-1])
        self._stages.report((executed.episode, executed.latent_index), end, times.published)

    def _on_chunk(self, chunk: ActionChunk, times: Times) -> None:
        self._chunks.append({'frames': chunk.latent_frames, **{part: getattr(chunk, f'{part}_ms') for part in PARTS}})
        self._stages.chunk(
            (chunk.episode, chunk.chunk),
            SentChunk(
                published_ns=times.published,
                observed=max(chunk.observation_indices, default=None),
                latency_ns=round(chunk.latency_ms * MILLISECOND),
                first_due_ns=to_ns(chunk.header.stamp) - self._profile.clock.action_ns,
            ),
        )
        self.chunk_seen.set()

    def _on_image(self, camera: str) -> Callable[[Any, Times], None]:
        def receive(image: Any, times: Times) -> None:
            stamp = to_ns(image.header.stamp)
            self._images[camera].append(stamp)
            self._stages.image(stamp, times.published)

        return receive

    def _on_diagnostics(self, diagnostics: DiagnosticArray, times: Times) -> None:
        for status in diagnostics.status:
            for pair in status.values:
                if pair.key == 'encode_ms' and float(pair.value) > 0:
                    self._stages.encoding(float(pair.value))

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.1)


class CpuMeter:
    """Processor time and memory of processes, by name, from /proc."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._ticks = {name: _ticks(pid) for name, pid in pids.items()}
        self._memory_mib = {name: memory_mib(pid) for name, pid in pids.items()}
        self._began = time.monotonic()

    def report(self) -> dict[str, dict[str, float]]:
        """Return for each process `cpu_percent` (of one core), `memory_mib` now, and its growth since construction."""
        elapsed = (time.monotonic() - self._began) * os.sysconf('SC_CLK_TCK')
        return {
            name: {
                'cpu_percent': 100 * (_ticks(pid) - self._ticks[name]) / elapsed,
                'memory_mib': memory_mib(pid),
                'memory_growth_mib': memory_mib(pid) - self._memory_mib[name],
            }
            for name, pid in self._pids.items()
        }


def bare_timer(period_ns: int, seconds: float) -> dict[str, float | None]:
    """Measure the period of an rclpy timer in this process, with nothing else to do, in ms: what is attainable here."""
    context = Context()
    context.init()
    try:
        node = Node(f'bare_timer_{os.getpid()}', context=context, use_global_arguments=False,
                    enable_rosout=False, start_parameter_services=False)  # fmt: skip
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        ticks: list[int] = []
        node.create_timer(period_ns / NANOSECONDS, lambda: ticks.append(time.monotonic_ns()))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        node.destroy_node()
    finally:
        context.try_shutdown()
    return percentiles(np.diff(ticks) / MILLISECOND)


def percentiles(values: Any) -> dict[str, float | None]:
    """Return p50, p99 and max; None without values."""
    if not len(values):
        return dict.fromkeys(('p50', 'p99', 'max'))
    p50, p99 = np.percentile(values, (50, 99))
    return {'p50': float(p50), 'p99': float(p99), 'max': float(np.max(values))}


def _rate(stamps: list[int]) -> float | None:
    if len(stamps) < 2 or stamps[-1] == stamps[0]:
        return None
    return (len(stamps) - 1) * NANOSECONDS / (stamps[-1] - stamps[0])


def lost_frames(stamps: list[int], period_ns: int) -> int:
    """Count the frames that are missing between the first and the last stamp."""
    return round((stamps[-1] - stamps[0]) / period_ns) + 1 - len(stamps) if stamps else 0


def _ticks(pid: int) -> int:
    """User and system time of a process, in clock ticks."""
    with open(f'/proc/{pid}/stat') as stat:
        fields = stat.read().rsplit(')', 1)[1].split()
    return int(fields[11]) + int(fields[12])


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    with open(f'/proc/{pid}/statm') as statm:
        return int(statm.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
