"""The graph beside what speaks on exactly the topics of a simulator's bridge, with a clock of its own."""

import importlib
import re
from array import array
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray
from support import Graph
from trajectory_msgs.msg import JointTrajectory

from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_msgs.msg import ActionChunk, DualArmCommand
from lingbot_va_ros import qos
from lingbot_va_ros.bringup import Bringup
from lingbot_va_ros.conversions import to_ns, to_time
from lingbot_va_ros.launch_arguments import graph_arguments, node_starts
from lingbot_va_ros.sim_bridge_node import trajectory
from lingbot_va_ros.task_client import run_task
from lingbot_va_sim.trajectory_controller import TrajectoryController

pytestmark = pytest.mark.patient  # time is the simulator's, and what is late holds
ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = 'cell'
STEP_NS = 5_000_000  # of simulated time in 10 ms: half as fast as the wall clock
JOINTS_EVERY, IMAGES_EVERY = 3, 16  # steps
BEGIN_NS = 20_000_000_000


class Simulator:
    """Publishes time, joints and images, and moves the joints to where it is told.

    Attributes:
        robot: its profile, a name or a file.
        positions: of all joints that it has.
        targets: the names and the positions [points, joints] of every command.
        groups: the names that belong to one command.
        stamps: of the commands that are not for now, ns.
    """

    name: str
    groups: set[tuple[str, ...]]

    def __init__(self, graph: Graph, robot: str, clock: str, states: str, cameras: Mapping[str, tuple]) -> None:
        """Offer topics, under the names that they have in the graph; `cameras` has (info, frame, width, height)."""
        self.robot, self.profile, self._node = robot, load_profile(robot), graph.node
        self.home = {joint.name: joint.home for joint in self.profile.joints}
        self.positions = dict(self.home)
        self.targets: list[tuple[list[str], np.ndarray]] = []
        self.stamps: list[int] = []
        self.now_ns, self._steps = BEGIN_NS, 0
        self._clock = self._node.create_publisher(Clock, clock, 10)
        self._states = self._node.create_publisher(JointState, states, 10)
        self._cameras = []
        for topic, (info_topic, frame, width, height) in cameras.items():
            image = Image(width=width, height=height, step=3 * width, encoding='rgb8')
            image.data = array('B', bytes(3 * width * height))
            image.header.frame_id = frame
            info = CameraInfo(width=width, height=height, header=image.header)
            self._cameras.append((self._node.create_publisher(Image, topic, 10), image))
            self._cameras.append((self._node.create_publisher(CameraInfo, info_topic, 10), info))
        self._node.create_timer(0.01, self._step)

    def listen(self, topic: str, kind: type, follow: Any) -> None:
        """Be commanded on a topic."""
        self._node.create_subscription(kind, topic, follow, 10)

    def moved(self) -> float:
        """How far the joint that moved most is from where it began, rad."""
        return max(abs(self.positions[name] - home) for name, home in self.home.items())

    def move(self) -> None:
        """Move the joints on."""

    def _step(self) -> None:
        self.now_ns += STEP_NS
        self._steps += 1
        self.move()
        stamp = to_time(self.now_ns)
        self._clock.publish(Clock(clock=stamp))
        if self._steps % JOINTS_EVERY == 0:
            state = JointState(name=list(self.positions), position=list(self.positions.values()))
            state.header.stamp = stamp
            self._states.publish(state)
        if self._steps % IMAGES_EVERY == 0:
            for publisher, message in self._cameras:
                message.header.stamp = stamp
                publisher.publish(message)


class IsaacSim(Simulator):
    """The nodes of the action graphs that the script for Isaac Sim makes."""

    name = 'isaac'

    def __init__(self, graph: Graph, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(ROOT / 'tools'))
            bridge = importlib.import_module('isaac_bridge')
        document = yaml.safe_load(profile_path('isaac').read_text())
        prims = {name: f'/World/{name}' for name in document['cameras']}
        joints, *cameras = bridge.graphs(document, '/World/robot', prims, NAMESPACE, False)
        pictures = {
            self._topic(camera, 'image'): (
                self._topic(camera, 'info'),
                camera.values['image.inputs:frameId'],
                *(camera.values[f'render.inputs:{side}'] for side in ('width', 'height')),
            )
            for camera in cameras
        }
        super().__init__(graph, 'isaac', self._topic(joints, 'clock'), self._topic(joints, 'states'), pictures)
        self.listen(self._topic(joints, 'command'), JointState, self._follow)
        self.groups = {tuple(self.home)}  # both arms and grippers in one message

    @staticmethod
    def _topic(graph: Any, name: str) -> str:
        namespace = graph.values.get(f'{name}.inputs:nodeNamespace', '')
        return '/'.join(['', *filter(None, [namespace, graph.values[f'{name}.inputs:topicName']])])

    def _follow(self, command: JointState) -> None:
        self.targets.append((list(command.name), np.array([command.position])))
        self.stamps.append(to_ns(command.header.stamp))
        self.positions |= dict(zip(command.name, command.position, strict=True))


class Gazebo(Simulator):
    """The bridge and the controllers that gazebo.launch.py starts.

    The grippers have forward_command_controllers in place of their actions, whose package is on ROS machines only; for
    these see test_gripper_goals.py.
    """

    name = 'gazebo'

    def __init__(self, graph: Graph, folder: Path) -> None:
        text, grippers = re.subn(
            r'type: parallel_gripper_command, action: (\w+)/gripper_cmd, threshold: \S+}',
            r'type: joint_group, topic: \1/commands}',
            profile_path('gazebo').read_text(),
        )
        assert grippers == 2
        (folder / 'robot.yaml').write_text(text)
        profile = load_profile('gazebo')
        rules = yaml.safe_load((ROOT / 'config' / 'gazebo' / 'bridge.yaml').read_text())
        bridged = {(rule['ros_type_name'], rule['ros_topic_name']) for rule in rules}
        (clock,) = (topic for kind, topic in bridged if kind == 'rosgraph_msgs/msg/Clock')
        pictures = {
            f'/{NAMESPACE}/{each.image_topic}': (
                f'/{NAMESPACE}/{each.info_topic}', each.frame_id, each.width, each.height,
            )
            for each in profile.cameras
            if {('sensor_msgs/msg/Image', each.image_topic), ('sensor_msgs/msg/CameraInfo', each.info_topic)} <= bridged
        }  # fmt: skip
        super().__init__(graph, str(folder / 'robot.yaml'), clock, f'/{NAMESPACE}/joint_states', pictures)
        # The joint state broadcaster has all joints of the robot, the fingers that follow others, too.
        self.positions = {f'openarm_{side}_finger_joint2': 0.0 for side in ('left', 'right')} | self.positions
        self._controllers = []
        self.groups = set()
        controllers = yaml.safe_load((ROOT / 'config' / 'gazebo' / 'controllers.yaml').read_text())
        for name, section in controllers.items():
            topic, parameters = name.replace('/**', f'/{NAMESPACE}'), section['ros__parameters']
            if 'joints' in parameters:
                joints = parameters['joints']
                controller = TrajectoryController(joints, np.array([self.home[joint] for joint in joints]))
                self._controllers.append(controller)
                self.listen(f'{topic}/joint_trajectory', JointTrajectory, partial(self._follow, controller))
                self.groups.add(tuple(joints))
            elif 'joint' in parameters:
                self.listen(f'{topic}/commands', Float64MultiArray, partial(self._grip, parameters['joint']))
                self.groups.add((parameters['joint'],))

    def _follow(self, controller: TrajectoryController, message: JointTrajectory) -> None:
        controller.replace(trajectory(message), self.now_ns)
        self.targets.append((list(message.joint_names), np.array([point.positions for point in message.points])))

    def _grip(self, joint: str, message: Float64MultiArray) -> None:
        self.targets.append(([joint], np.array([message.data])))
        (self.positions[joint],) = message.data

    def move(self) -> None:
        """Move the arms to where their trajectories are now."""
        for controller in self._controllers:
            positions, _ = controller.sample(self.now_ns)
            self.positions |= dict(zip(controller.joint_names, positions.tolist(), strict=True))


@pytest.mark.parametrize('kind', [IsaacSim, Gazebo])
def test_a_task_runs_on_the_topics_of_a_simulator_and_in_its_time(kind: type[Simulator], tmp_path: Path) -> None:
    with Graph() as graph:
        simulator = kind(graph, tmp_path)
        given = launched(kind.name, namespace=NAMESPACE, robot=simulator.robot, checkpoint='none', mode='sync')
        starts = node_starts(False, given)
        chunks = graph.collect(f'/{NAMESPACE}/action_chunk', ActionChunk, qos.CHUNK)
        commands = graph.collect(f'/{NAMESPACE}/command', DualArmCommand, qos.COMMAND)
        lines: list[str] = []
        specs = [start.spec for start in starts]
        with Bringup(specs, starts[0].parameters, namespace=NAMESPACE, log=lines.append):
            run_task('move', 60.0, namespace=NAMESPACE, stop=lambda: len(chunks) > 1 and simulator.moved() > 0.02)
    assert len(chunks) > 1, '\n'.join(lines)
    assert simulator.moved() > 0.02
    assert {tuple(names) for names, _ in simulator.targets} == simulator.groups
    limits = {joint.name: (joint.lower, joint.upper) for joint in simulator.profile.joints}
    for names, positions in simulator.targets:
        lower, upper = np.transpose([limits[name] for name in names])
        assert np.all((positions >= lower) & (positions <= upper))
    stamps = [to_ns(stamp) for chunk in chunks for stamp in chunk.observation_stamps]
    stamps += [to_ns(command.header.stamp) for command in commands] + simulator.stamps
    assert all(BEGIN_NS <= stamp < 2 * 10**11 for stamp in stamps), 'simulated time'


def launched(name: str, **given: str) -> dict[str, str]:
    """The values of the arguments of a simulator's launch file."""
    arguments = graph_arguments(False, robot=name, use_sim_time='true')
    return {each.name: given.get(each.name, each.default) for each in arguments}
