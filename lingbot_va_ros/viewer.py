"""A live view of a running graph, in Rerun's window: cameras, commands, chunks and what the world model does."""

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
from typing import Any

POLL_S = 0.002
MEMORY = '512MB'  # the oldest data leaves the window first
STATES = ('idle', 'observing', 'predicting', 'executing')  # Status.state


def obstacle() -> str | None:
    """Say why there can be no live view on this machine, or None."""
    if not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        return 'there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)'
    if importlib.util.find_spec('rerun') is None:
        return 'rerun-sdk is not installed; pip install -r requirements-view.txt'
    return None


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
    with contextlib.suppress(KeyboardInterrupt), _window() as (window, address):
        _show(args.robot, args.namespace, window, address)


@contextlib.contextmanager
def _window() -> Iterator[tuple[subprocess.Popen, str]]:
    """Open Rerun's window, which listens on this machine only, and close it at the end; yield it and its address."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    program = Path(importlib.util.find_spec('rerun_cli').origin).with_name('rerun')
    window = subprocess.Popen(
        [program, '--bind', '127.0.0.1', '--port', str(port), '--memory-limit', MEMORY, '--hide-welcome-screen']
    )
    try:
        yield window, f'rerun+http://127.0.0.1:{port}/proxy'
    finally:
        window.terminate()
        window.wait()


def _show(robot: str, namespace: str, window: subprocess.Popen, address: str) -> None:
    import rclpy
    import rerun as rr

    from lingbot_va_core.robot import load_profile

    profile = load_profile(robot)
    rr.init('lingbot_va')
    rr.connect_grpc(address, default_blueprint=_blueprint([camera.name for camera in profile.cameras]))
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(
            'viewer', context=context, namespace=namespace, enable_rosout=False, start_parameter_services=False
        )
        _subscribe(node, profile)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        while window.poll() is None:  # until somebody closes it
            executor.spin_once(timeout_sec=0.0)
            time.sleep(POLL_S)
    finally:
        context.try_shutdown()


def _blueprint(cameras: list[str]) -> Any:
    """Lay the window out: cameras above; below joint commands, chunk latency and the state in words."""
    from rerun import blueprint as rrb

    views = [rrb.Spatial2DView(origin=f'cameras/{name}', name=name) for name in cameras]
    below = [
        rrb.TimeSeriesView(origin='command', name='commands (rad, gripper m)'),
        rrb.TimeSeriesView(origin='chunk', name='chunk latency, motion and margin (ms)'),
        rrb.TextLogView(origin='status', name='world model'),
    ]
    return rrb.Blueprint(
        rrb.Vertical(rrb.Horizontal(*views), rrb.Horizontal(*below), row_shares=[3, 2]), collapse_panels=True
    )


def _subscribe(node: Any, profile: Any) -> None:
    import rerun as rr
    from sensor_msgs.msg import Image

    from lingbot_va_msgs.msg import ActionChunk, DualArmCommand, Status
    from lingbot_va_ros import qos
    from lingbot_va_ros.bag import nanoseconds
    from lingbot_va_ros.images import to_rgb

    def at(message: Any) -> None:
        rr.set_time('time', timestamp=nanoseconds(message.header.stamp) * 1e-9)

    def show_image(name: str, message: Image) -> None:
        at(message)
        rr.log(f'cameras/{name}', rr.Image(to_rgb(message)))

    def show_command(message: DualArmCommand) -> None:
        at(message)
        for joint in profile.joints:
            rr.log(f'command/{joint.name}', rr.Scalars(float(message.values[joint.channel])))

    def show_chunk(message: ActionChunk) -> None:
        at(message)
        motion = message.latent_frames * message.actions_per_latent * nanoseconds(message.dt) * 1e-6
        rr.log('chunk/latency', rr.Scalars(message.latency_ms))
        rr.log('chunk/motion', rr.Scalars(motion))
        rr.log('chunk/margin', rr.Scalars(message.margin_ms))

    def show_status(message: Status) -> None:
        at(message)
        progress = f'{STATES[message.state]}, {message.chunks} chunks in episode {message.episode}'
        text = f'{progress}: {message.instruction or "no instruction"}'
        rr.log('status', rr.TextLog(text))

    for camera in profile.cameras:
        node.create_subscription(
            Image, camera.image_topic, lambda message, name=camera.name: show_image(name, message), qos.SENSOR
        )
    node.create_subscription(DualArmCommand, 'command', show_command, qos.COMMAND)
    node.create_subscription(ActionChunk, 'action_chunk', show_chunk, qos.CHUNK)
    node.create_subscription(Status, 'status', show_status, qos.LATCHED)


if __name__ == '__main__':
    main()
