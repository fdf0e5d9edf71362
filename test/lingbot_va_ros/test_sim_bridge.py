"""The simulated robot seen over ROS: a process of its own, driven through its lifecycle, topics and services."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import TransitionCallbackReturn
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from support import Graph, node_of
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_ros.conversions import to_duration, to_ns
from lingbot_va_ros.qos import LATCHED, SENSOR, TRAJECTORY
from lingbot_va_ros.ros_environment import child_environment
from lingbot_va_ros.sim_bridge_node import SimBridgeNode
from lingbot_va_sim.tasks import LEFT_FINGER

MS = 1_000_000
PROFILE = load_profile('aloha')
CAMERAS = PROFILE.cameras
LEFT = [joint.name for joint in PROFILE.arms[0].joints]


class Bridge:
    """A sim_bridge process in a namespace of its own, and what it has written so far."""

    def __init__(self, namespace: str, environment: dict[str, str] | None = None, **parameters: object) -> None:
        self.namespace = namespace
        values = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'lingbot_va_ros.sim_bridge_node', '--ros-args', '-r', f'__ns:={namespace}', *values],
            env=child_environment(sys.path) | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: list[str] = []
        self._reader = threading.Thread(target=lambda: self.output.extend(self._process.stdout), daemon=True)
        self._reader.start()

    def change(self, graph: Graph, *transitions: str) -> bool:
        """Make transitions; return whether all succeeded."""
        return graph.change_state(f'{self.namespace}/sim_bridge', *transitions)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 20.0) -> int:
        """Wait for the end of the process and of its output; return the exit code."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def close(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self.wait()
        self._process.stdout.close()


@contextlib.contextmanager
def started(namespace: str, *transitions: str, **options: object) -> Iterator[tuple[Bridge, Graph]]:
    bridge = Bridge(namespace, **options)
    try:
        with Graph(namespace=namespace) as graph:
            assert bridge.change(graph, *transitions), bridge.output
            yield bridge, graph
    finally:
        bridge.close()


@pytest.fixture(scope='module')
def robot() -> Iterator[tuple[Bridge, Graph]]:
    with started('/robot', 'configure', 'activate') as running:
        yield running


def stamps(messages: list) -> np.ndarray:
    return np.array([to_ns(message.header.stamp) for message in messages])


def pixels(image: Image) -> np.ndarray:
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


def red_centre(image: Image) -> np.ndarray:
    rgb = pixels(image)
    return np.argwhere((rgb[..., 0] > 120) & (rgb[..., 1:].max(axis=2) < 60)).mean(axis=0)


def counts(diagnostics: list[DiagnosticArray], namespace: str) -> dict[str, str]:
    """Return the values of the newest diagnostic of the bridge."""
    for array in reversed(diagnostics):
        for status in array.status:
            if status.hardware_id == namespace:
                return {item.key: item.value for item in status.values}
    return {}


def sender(graph: Graph) -> Callable[..., None]:
    """Return a function that sends the left arm a trajectory."""
    publisher = graph.node.create_publisher(JointTrajectory, PROFILE.arms[0].output.topic, TRAJECTORY)
    graph.wait_for(publisher.get_subscription_count, what='the subscription of the left arm')

    def send(points: list, names: list[str] = LEFT, stride_ms: int = 200) -> None:
        message = JointTrajectory(joint_names=names)
        message.points = [
            JointTrajectoryPoint(
                positions=[float(x) for x in point], time_from_start=to_duration((index + 1) * stride_ms * MS)
            )
            for index, point in enumerate(points)
        ]
        publisher.publish(message)

    return send


def test_images_and_joint_states_come_at_their_rates_on_one_grid(robot: tuple[Bridge, Graph]) -> None:
    _, graph = robot
    ages: list[int] = []
    images = [graph.collect(camera.image_topic, Image, SENSOR) for camera in CAMERAS]
    infos = [graph.collect(camera.info_topic, CameraInfo, SENSOR) for camera in CAMERAS]
    joints = graph.collect('joint_states', JointState, SENSOR)
    graph.node.create_subscription(
        JointState, 'joint_states', lambda message: ages.append(time.time_ns() - to_ns(message.header.stamp)), SENSOR
    )
    graph.wait_for(lambda: min(map(len, (*images, *infos))) >= 20 and len(joints) >= 90, 20.0)

    states = stamps(joints)
    assert set(np.diff(states) % (20 * MS)) == {0}
    assert np.median(np.diff(states)) == 20 * MS
    assert 0 <= np.median(ages) < 100 * MS
    assert joints[0].name == [joint.name for joint in PROFILE.joints]
    assert len(joints[0].position) == len(joints[0].velocity) == 14
    views = [dict(zip(stamps(received), received, strict=True)) for received in images]
    for camera, received, described in zip(CAMERAS, images, infos, strict=True):
        taken = stamps(received)
        assert set(np.diff(taken) % (80 * MS)) == {0}
        assert np.median(np.diff(taken)) == 80 * MS
        assert set((taken - states[0]) % (20 * MS)) == {0}
        assert set(stamps(described)) & set(taken)
        first, info = received[0], described[0]
        assert (first.width, first.height, first.step, first.encoding) == (240, 160, 720, 'rgb8')
        assert first.header.frame_id == info.header.frame_id == camera.frame_id
        assert info.k[0] == info.k[4] == info.p[0] > 100
        assert (info.k[2], info.k[5]) == (119.5, 79.5)
    shared = set(views[0]) & set(views[1]) & set(views[2])
    assert len(shared) >= 15
    high, left, right = (pixels(view[max(shared)]).astype(int) for view in views)
    assert min(np.abs(high - left).mean(), np.abs(left - right).mean(), high.std()) > 5


def test_a_trajectory_moves_its_arm_which_then_holds(robot: tuple[Bridge, Graph]) -> None:
    _, graph = robot
    joints = graph.collect('joint_states', JointState, SENSOR)
    graph.wait_for(lambda: len(joints) > 1)
    start = np.array(joints[-1].position)
    goal = start[:7] + np.array([0.2, 0.1, -0.1, 0.1, 0.1, -0.1, 0.02])
    sender(graph)([start[:7] + (goal - start[:7]) / 2, goal])

    def position() -> np.ndarray:
        return np.array(joints[-1].position)

    graph.wait_for(lambda: np.abs(position()[:7] - goal).max() < 0.02, what='the goal')
    reached = len(joints)
    graph.wait_for(lambda: len(joints) > reached + 50)
    later = np.array([message.position for message in joints[reached:]])
    assert np.abs(later[:, :7] - goal).max() < 0.03
    assert np.abs(later[:, 7:] - start[7:]).max() < 0.01


def test_a_rejected_trajectory_is_logged_and_counted_and_changes_nothing(robot: tuple[Bridge, Graph]) -> None:
    bridge, graph = robot
    diagnostics = graph.collect('/diagnostics', DiagnosticArray)
    joints = graph.collect('joint_states', JointState, SENSOR)
    graph.wait_for(lambda: counts(diagnostics, '/robot') and joints)
    assert counts(diagnostics, '/robot')['rejected_left'] == '0'
    before = np.array(joints[-1].position)
    send = sender(graph)
    send([np.zeros(6)], names=LEFT[:6])
    graph.wait_for(lambda: counts(diagnostics, '/robot')['rejected_left'] == '1', what='the count of rejections')
    send([np.full(7, np.nan)])
    graph.wait_for(lambda: counts(diagnostics, '/robot')['rejected_left'] == '2', what='the count of rejections')
    assert counts(diagnostics, '/robot')['rejected_right'] == '0'
    log = ''.join(bridge.output)
    assert 'left_arm_controller/joint_trajectory: trajectory rejected: ' in log
    assert 'the joints do not match the controller: missing left_gripper' in log
    assert 'nan among its positions (left_waist)' in log
    assert np.array(joints[-1].position) == pytest.approx(before, abs=0.01)


def test_reset_takes_the_next_start(robot: tuple[Bridge, Graph]) -> None:
    _, graph = robot
    success = graph.collect('task_success', Bool, LATCHED)
    images = graph.collect(CAMERAS[0].image_topic, Image, SENSOR)
    joints = graph.collect('joint_states', JointState, SENSOR)
    graph.wait_for(lambda: images and success)
    before = red_centre(images[-1])
    reply = graph.call('/robot/sim_bridge/reset', Trigger)
    assert (reply.success, reply.message) == (True, 'start drawn from seed 1')
    seen = len(images)
    graph.wait_for(lambda: len(images) > seen + 12)  # the cube has come to rest
    assert np.linalg.norm(red_centre(images[-1]) - before) > 5
    home = [0, -0.96, 1.16, 0, -0.3, 0, 0.02239] * 2
    assert list(joints[-1].position) == pytest.approx(home, abs=0.02)
    graph.wait_for(lambda: len(success) >= 2)
    assert [message.data for message in success] == [False, False]
    assert set(np.diff(stamps(joints)) % (20 * MS)) == {0}  # the clock ran on


def test_stamps_follow_the_system_when_the_machine_was_too_slow(robot: tuple[Bridge, Graph]) -> None:
    bridge, graph = robot
    diagnostics = graph.collect('/diagnostics', DiagnosticArray)
    joints = graph.collect('joint_states', JointState, SENSOR)
    images = graph.collect(CAMERAS[0].image_topic, Image, SENSOR)
    graph.wait_for(lambda: len(joints) > 5 and images)
    bridge.send(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        graph.wait_for(lambda: time.monotonic() - stopped > 0.6)
    finally:
        bridge.send(signal.SIGCONT)
    seen = len(images)
    graph.wait_for(lambda: len(images) > seen + 5)
    gaps = np.diff(stamps(joints)) // MS
    assert set(gaps % 20) == {0}
    assert gaps.max() >= 400
    assert set(np.diff(stamps(images)) % (80 * MS)) == {0}
    assert abs(time.time_ns() - stamps(joints)[-1]) < 300 * MS
    values = graph.wait_for(
        lambda: int(counts(diagnostics, '/robot').get('clock_shifts', 0)) and counts(diagnostics, '/robot')
    )
    assert int(values['clock_shift_ms']) >= 400


def test_simulation_time_runs_by_its_factor(tmp_path: Path) -> None:
    small = tmp_path / 'small.yaml'  # images that a busy machine can draw as fast
    small.write_text(profile_path('aloha').read_text().replace('width: 240, height: 160', 'width: 48, height: 32'))
    assert load_profile(str(small)).cameras[0].width == 48
    options = {'robot': small, 'real_time_factor': 2.0, 'publish_clock': 'true'}
    with started('/fast', 'configure', **options) as (bridge, graph):
        clocks: list[tuple[float, int]] = []
        graph.node.create_subscription(
            Clock, '/clock', lambda message: clocks.append((time.monotonic(), to_ns(message.clock))), 100
        )
        joints = graph.collect('joint_states', JointState, SENSOR)
        images = graph.collect(CAMERAS[0].image_topic, Image, SENSOR)
        assert bridge.change(graph, 'activate')
        graph.wait_for(lambda: len(clocks) >= 200, 20.0)
        arrivals, times = (np.array(column) for column in zip(*clocks[:200], strict=True))
        assert set(np.diff(times)) == {20 * MS}
        assert set(times % (20 * MS)) == {0}
        assert times[0] < 2000 * MS
        factor = (times[-1] - times[0]) / 1e9 / (arrivals[-1] - arrivals[0])
        assert 1.2 < factor < 2.2  # at most 2; less where the cameras do not keep up
        assert set(stamps(joints)) & set(times)
        assert set(stamps(images) % (80 * MS)) == {0}


def test_still_cameras_keep_their_rate_and_show_the_first_picture() -> None:
    with started('/still', 'configure', 'activate', still_cameras=True) as (_, graph):
        images = [graph.collect(camera.topic, Image, SENSOR) for camera in CAMERAS]
        joints = graph.collect('joint_states', JointState, SENSOR)
        graph.wait_for(lambda: len(joints) > 1 and all(images))
        start = np.array(joints[-1].position)
        sender(graph)([start[:7] + 0.2])
        graph.wait_for(lambda: joints[-1].position[0] > start[0] + 0.1, what='the motion')
        seen = len(images[0])
        graph.wait_for(lambda: all(len(shown) > seen + 3 for shown in images))
    for shown in images:
        assert len({bytes(image.data) for image in shown}) == 1
        assert np.ptp(shown[0].data) > 0
        gaps = np.diff([to_ns(image.header.stamp) for image in shown])
        assert (gaps > 0).all() and (gaps % PROFILE.clock.video_ns == 0).all()


def test_as_fast_as_possible_films_every_frame() -> None:
    options = {'real_time_factor': 0.0, 'publish_clock': 'true'}
    with started('/free', 'configure', 'activate', **options) as (_, graph):
        diagnostics = graph.collect('/diagnostics', DiagnosticArray)
        graph.wait_for(lambda: int(counts(diagnostics, '/free').get('frames', 0)) > 20, 30.0)
        assert counts(diagnostics, '/free')['frames_dropped'] == '0'


def test_nothing_is_published_while_inactive_and_nothing_stays_after_cleanup() -> None:
    with started('/cycle', 'configure') as (bridge, graph):
        joints = graph.collect('joint_states', JointState, SENSOR)
        images = graph.collect(CAMERAS[0].image_topic, Image, SENSOR)
        assert 'not active' in graph.call('/cycle/sim_bridge/reset', Trigger).message
        assert not joints and not images
        for _ in range(2):
            assert bridge.change(graph, 'activate')
            graph.wait_for(lambda: joints and images)
            assert bridge.change(graph, 'deactivate')
            # A reply of the same process comes after all that it published before.
            assert not graph.call('/cycle/sim_bridge/reset', Trigger).success
            joints.clear()
            images.clear()
            assert not graph.call('/cycle/sim_bridge/reset', Trigger).success
            assert not joints and not images
            assert bridge.change(graph, 'cleanup')
            graph.wait_for(lambda: not graph.node.count_publishers('/cycle/joint_states'), what='no publisher')
            assert not graph.node.count_publishers(f'/cycle/{CAMERAS[0].image_topic}')
            assert not graph.node.count_subscribers(f'/cycle/{PROFILE.arms[0].output.topic}')
            assert bridge.change(graph, 'configure')
        assert bridge.change(graph, 'activate')
        bridge.send(signal.SIGINT)
        assert bridge.wait() == 0
        assert not [line for line in bridge.output if 'Traceback' in line or 'Error' in line]


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({'real_time_factor': 2.0}, 'cannot configure: real_time_factor is 2, and other nodes can follow that only by'),
        (
            {'environment': {'MUJOCO_GL': 'egl', '__EGL_VENDOR_LIBRARY_FILENAMES': os.devnull}},
            'cannot configure: no OpenGL context for the cameras; tried egl',
        ),
    ],
)
def test_configure_is_refused_in_one_line(options: dict, reason: str) -> None:
    with started('/refused', **options) as (bridge, graph):
        assert not bridge.change(graph, 'configure')
        graph.wait_for(lambda: any(reason in line for line in bridge.output), what=reason)
        bridge.send(signal.SIGTERM)
        assert bridge.wait() == 0
        assert not [line for line in bridge.output if 'Traceback' in line]


def test_an_unknown_task_ends_the_process_with_exit_code_2() -> None:
    bridge = Bridge('/juggler', task='juggle')
    try:
        assert bridge.wait(30.0) == 2
        assert "task is 'juggle'; choose one of transfer_cube, insertion" in bridge.output[-1]
    finally:
        bridge.close()


def test_success_is_announced_once_and_taken_back_by_a_reset() -> None:
    with Graph() as graph:
        success = graph.collect('task_success', Bool, LATCHED)
        with node_of(SimBridgeNode) as node:
            assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
            assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
            graph.wait_for(lambda: [message.data for message in success] == [False])
            simulation = node._simulation
            with node._lock:  # put the cube between the fingers of the left arm
                finger = simulation.data.geom(LEFT_FINGER)
                cube = simulation.data.joint('red_box_joint')
                cube.qpos[:3] = finger.xpos + np.array([0.05, -0.01, 0.0])
                mujoco.mj_forward(simulation.robot.model, simulation.data)
            graph.wait_for(lambda: [message.data for message in success] == [False, True])
            assert node._on_reset(Trigger.Request(), Trigger.Response()).success
            graph.wait_for(lambda: [message.data for message in success] == [False, True, False])


def test_both_arms_of_openarm_follow_one_joint_state() -> None:
    profile = load_profile('isaac')
    names = [joint.name for joint in profile.joints]
    with started('/isaac', 'configure', 'activate', robot='isaac') as (bridge, graph):
        joints = graph.collect('joint_states', JointState, SENSOR)
        diagnostics = graph.collect('/diagnostics', DiagnosticArray)
        publisher = graph.node.create_publisher(JointState, profile.arms[0].output.topic, TRAJECTORY)
        graph.wait_for(lambda: publisher.get_subscription_count() == 2 and joints, what='both arms')
        assert joints[-1].name == names
        targets = np.array(joints[-1].position)
        targets[[3, 7, 11, 15]] += (-0.1, -0.2, -0.1, 0.2)
        publisher.publish(JointState(name=names, position=targets.tolist()))
        graph.wait_for(
            lambda: np.abs(np.array(joints[-1].position) - targets).max() < 0.05, 20.0, what='the arms at their targets'
        )
        publisher.publish(JointState(name=names, position=[np.nan] * 16))
        graph.wait_for(
            lambda: all(counts(diagnostics, '/isaac').get(f'rejected_{side}') == '1' for side in ('left', 'right')),
            what='the count of rejections',
        )
        assert counts(diagnostics, '/isaac')['task'] == 'hand_over'
        graph.wait_for(
            lambda: 'the position of openarm_left_joint1 is nan' in ''.join(bridge.output), what='the reason in the log'
        )
