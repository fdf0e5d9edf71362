"""The graph beside what speaks on exactly the topics of the action graphs for Isaac Sim, with a clock of its own."""

import importlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from support import Graph

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_msgs.msg import ActionChunk
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import to_ns, to_time
from lingbot_va_ros.launch_arguments import graph_arguments, node_starts
from lingbot_va_ros.task_client import run_task

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = 'cell'
PROFILE = load_profile('isaac')
HOME = {joint.name: joint.home for joint in PROFILE.joints}
STEP_NS = 5_000_000  # of simulated time in 10 ms: half as fast as the wall clock
JOINTS_EVERY, IMAGES_EVERY = 3, 16  # steps
BEGIN_NS = 20_000_000_000


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script that runs in Isaac Sim."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    return importlib.import_module('isaac_bridge')


class Simulator:
    """Does what the nodes of the action graphs do, and moves the joints to where it is told."""

    def __init__(self, graph: Graph, action_graphs: list[Any]) -> None:
        joints, *cameras = action_graphs
        node = graph.node
        self.positions = dict(HOME)
        self.commands: list[JointState] = []
        self._now_ns, self._steps = BEGIN_NS, 0
        self._clock = node.create_publisher(Clock, self._topic(joints, 'clock'), 10)
        self._states = node.create_publisher(JointState, self._topic(joints, 'states'), 10)
        node.create_subscription(JointState, self._topic(joints, 'command'), self._follow, 10)
        self._cameras = []
        for camera in cameras:
            width, height = (camera.values[f'render.inputs:{side}'] for side in ('width', 'height'))
            image = Image(width=width, height=height, step=3 * width, encoding='rgb8')
            image.data = array('B', bytes(3 * width * height))
            image.header.frame_id = camera.values['image.inputs:frameId']
            info = CameraInfo(width=width, height=height, header=image.header)
            publishers = (
                node.create_publisher(Image, self._topic(camera, 'image'), 10),
                node.create_publisher(CameraInfo, self._topic(camera, 'info'), 10),
            )
            self._cameras.append((publishers, (image, info)))
        node.create_timer(0.01, self._step)

    @staticmethod
    def _topic(graph: Any, name: str) -> str:
        namespace = graph.values.get(f'{name}.inputs:nodeNamespace', '')
        return '/'.join(['', *filter(None, [namespace, graph.values[f'{name}.inputs:topicName']])])

    def _follow(self, command: JointState) -> None:
        self.commands.append(command)
        self.positions |= dict(zip(command.name, command.position, strict=True))

    def _step(self) -> None:
        self._now_ns += STEP_NS
        self._steps += 1
        stamp = to_time(self._now_ns)
        self._clock.publish(Clock(clock=stamp))
        if self._steps % JOINTS_EVERY == 0:
            state = JointState(name=list(self.positions), position=list(self.positions.values()))
            state.header.stamp = stamp
            self._states.publish(state)
        if self._steps % IMAGES_EVERY == 0:
            for publishers, messages in self._cameras:
                for publisher, message in zip(publishers, messages, strict=True):
                    message.header.stamp = stamp
                    publisher.publish(message)


def test_a_task_runs_on_the_topics_of_isaac_sim_and_in_its_time(bridge: ModuleType) -> None:
    profile = yaml.safe_load(profile_path('isaac').read_text())
    prims = {name: f'/World/{name}' for name in profile['cameras']}
    starts = node_starts(False, launched(namespace=NAMESPACE, robot='isaac', checkpoint='none', mode='sync'))
    with Graph() as graph:
        simulator = Simulator(graph, bridge.graphs(profile, '/World/robot', prims, NAMESPACE, False))
        chunks = graph.collect(f'/{NAMESPACE}/action_chunk', ActionChunk, qos.CHUNK)
        lines: list[str] = []
        specs = [start.spec for start in starts]
        with Bringup(specs, starts[0].parameters, namespace=NAMESPACE, log=lines.append):
            run_task('move', 60.0, namespace=NAMESPACE, stop=lambda: len(chunks) > 1 and moved(simulator) > 0.02)
    assert len(chunks) > 1, '\n'.join(lines)
    assert moved(simulator) > 0.02
    names, limits = [joint.name for joint in PROFILE.joints], (PROFILE.limits('lower'), PROFILE.limits('upper'))
    for command in simulator.commands:
        assert list(command.name) == names, 'both arms and grippers in one message'
        assert np.all((command.position >= limits[0]) & (command.position <= limits[1]))
    stamps = [to_ns(stamp) for chunk in chunks for stamp in chunk.observation_stamps]
    stamps += [to_ns(command.header.stamp) for command in simulator.commands]
    assert all(BEGIN_NS <= stamp < 2 * 10**11 for stamp in stamps), 'simulated time'


def launched(**given: str) -> dict[str, str]:
    """The values of the arguments of isaac.launch.py."""
    arguments = graph_arguments(False, robot='isaac', use_sim_time='true')
    return {each.name: given.get(each.name, each.default) for each in arguments}


def moved(simulator: Simulator) -> float:
    """How far the joint that moved most is from where it began, rad."""
    return max(abs(simulator.positions[name] - HOME[name]) for name in HOME)
