"""A live view of a running graph, in Rerun's window: what `rerun_scene` shows."""

import argparse
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

POLL_S = 0.002
LIVE_MEMORY = '512MB'
APPLICATION = 'lingbot_va'


def obstacle() -> str | None:
    """Say why there can be no live view on this machine, or None."""
    if not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        return 'there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)'
    return missing_library()


def missing_library() -> str | None:
    """Say that Rerun is not installed, or None."""
    found = importlib.util.find_spec('rerun') is not None
    return None if found else 'rerun-sdk is not installed; pip install -r requirements-view.txt'


def main() -> None:
    """Open the window and show the graph until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog='viewer', description='Watch a running graph live.')
    parser.add_argument('--robot', default='aloha', help='robot profile: a name or a YAML file (default: %(default)s)')
    parser.add_argument('--namespace', default='', help='namespace of the graph')
    args = parser.parse_args()
    if reason := obstacle():
        sys.exit(f'no live view: {reason}')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), window() as (process, address):
        _show(args.robot, args.namespace, process, address)


@contextlib.contextmanager
def window(memory: str = LIVE_MEMORY) -> Iterator[tuple[subprocess.Popen, str]]:
    """Open Rerun's window, which listens on this machine only, and close it at the end; yield it and its address.

    Args:
        memory: above which the oldest data leaves the window, such as '512MB' or '75%'.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    program = Path(importlib.util.find_spec('rerun_cli').origin).with_name('rerun')
    process = subprocess.Popen(
        [program, '--bind', '127.0.0.1', '--port', str(port), '--memory-limit', memory, '--hide-welcome-screen']
    )
    try:
        yield process, f'rerun+http://127.0.0.1:{port}/proxy'
    finally:
        process.terminate()
        process.wait()


def _show(robot: str, namespace: str, process: subprocess.Popen, address: str) -> None:
    import rclpy
    import rerun as rr

    from lingbot_va_core.robot import load_profile
    from lingbot_va_ros.recorded_topics import recorded_topics
    from lingbot_va_ros.rerun_scene import RerunScene

    profile = load_profile(robot)
    stream = rr.RecordingStream(APPLICATION)
    stream.connect_grpc(address)
    handlers = RerunScene(stream, profile, compress=False).handlers
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(
            'viewer', context=context, namespace=namespace, enable_rosout=False, start_parameter_services=False
        )
        for topic in recorded_topics(profile, imagined_video=True):
            if topic.name in handlers:
                node.create_subscription(topic.kind, topic.name, handlers[topic.name], topic.qos)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        while process.poll() is None:  # until somebody closes it
            executor.spin_once(timeout_sec=0.0)
            time.sleep(POLL_S)
    finally:
        context.try_shutdown()


if __name__ == '__main__':
    main()
