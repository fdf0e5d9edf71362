"""Opens a stage in Isaac Sim and connects its robot and cameras to the topics of a robot profile.

It runs in Isaac Sim's own Python, `python.sh isaac_bridge.py --stage robot.usd --robot isaac.yaml --cameras NAME=PRIM`,
and makes an action graph for the joints and one for each camera; docs/simulators.md has the topics.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

BRIDGE, NODES = 'isaacsim.ros2.bridge', 'isaacsim.core.nodes'
ROS2_CONTROL = ('isaac/joint_states', 'isaac/joint_command')  # as config/gazebo/two_arms.urdf.xacro has them
SKIPPED_FRAMES = 1  # between two images; at 60 frames a second these are 30


@dataclass
class Graph:
    """An action graph, as `og.Controller.edit` wants it.

    Attributes:
        nodes: type of each node, by name.
        values: of inputs, by `NODE.inputs:NAME`.
        prims: paths of prims that inputs are about, in the same way.
        connections: from an output to an input.
    """

    path: str
    nodes: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    prims: dict[str, str] = field(default_factory=dict)
    connections: list[tuple[str, str]] = field(default_factory=list)


def joint_graph(profile: Mapping[str, Any], articulation: str, namespace: str, ros2_control: bool = False) -> Graph:
    """Return the graph that publishes the time and the joint states, and carries out the commands.

    With `ros2_control` the joints are on topics of their own, behind its controllers.

    Raises:
        ValueError: the profile does not command its joints by JointState messages on one topic.
    """
    states, command = ROS2_CONTROL if ros2_control else (profile['joint_states'], _command_topic(profile))
    graph = Graph(
        '/lingbot_va/joints',
        {
            'tick': 'omni.graph.action.OnPlaybackTick',
            'context': f'{BRIDGE}.ROS2Context',
            'time': f'{NODES}.IsaacReadSimulationTime',
            'clock': f'{BRIDGE}.ROS2PublishClock',
            'states': f'{BRIDGE}.ROS2PublishJointState',
            'command': f'{BRIDGE}.ROS2SubscribeJointState',
            'controller': f'{NODES}.IsaacArticulationController',
        },
        {
            'clock.inputs:topicName': 'clock',
            'states.inputs:topicName': states,
            'states.inputs:nodeNamespace': namespace,
            'command.inputs:topicName': command,
            'command.inputs:nodeNamespace': namespace,
        },
        {'states.inputs:targetPrim': articulation, 'controller.inputs:targetPrim': articulation},
        [
            ('time.outputs:simulationTime', 'clock.inputs:timeStamp'),
            ('time.outputs:simulationTime', 'states.inputs:timeStamp'),
            ('command.outputs:jointNames', 'controller.inputs:jointNames'),
            ('command.outputs:positionCommand', 'controller.inputs:positionCommand'),
        ],
    )
    graph.connections += [('tick.outputs:tick', f'{node}.inputs:execIn')
                          for node in ('clock', 'states', 'command', 'controller')]  # fmt: skip
    graph.connections += [('context.outputs:context', f'{node}.inputs:context')
                          for node in ('clock', 'states', 'command')]  # fmt: skip
    return graph


def camera_graph(name: str, camera: Mapping[str, Any], prim: str, namespace: str) -> Graph:
    """Return the graph that renders a camera of the profile and publishes its images and its calibration."""
    graph = Graph(
        f'/lingbot_va/{name}',
        {
            'tick': 'omni.graph.action.OnPlaybackTick',
            'context': f'{BRIDGE}.ROS2Context',
            'render': f'{NODES}.IsaacCreateRenderProduct',
            'image': f'{BRIDGE}.ROS2CameraHelper',
            'info': f'{BRIDGE}.ROS2CameraInfoHelper',
        },
        {
            'render.inputs:width': camera['width'],
            'render.inputs:height': camera['height'],
            'image.inputs:type': 'rgb',
        },
        {'render.inputs:cameraPrim': prim},
        [('tick.outputs:tick', 'render.inputs:execIn')],
    )
    for node in ('image', 'info'):
        graph.values |= {
            f'{node}.inputs:topicName': camera[node],
            f'{node}.inputs:frameId': camera['frame'],
            f'{node}.inputs:nodeNamespace': namespace,
            f'{node}.inputs:frameSkipCount': SKIPPED_FRAMES,
        }
        graph.connections += [
            ('render.outputs:execOut', f'{node}.inputs:execIn'),
            ('render.outputs:renderProductPath', f'{node}.inputs:renderProductPath'),
            ('context.outputs:context', f'{node}.inputs:context'),
        ]
    return graph


def graphs(
    profile: Mapping[str, Any], articulation: str, prims: Mapping[str, str], namespace: str, ros2_control: bool
) -> list[Graph]:
    """Return all graphs of a profile.

    Raises:
        ValueError: a camera has no prim, a prim has no camera, or the joints are not commanded by JointState messages.
    """
    cameras = profile['cameras']
    if wrong := sorted(set(cameras) ^ set(prims)):
        raise ValueError(f'--cameras must have each of {", ".join(cameras)}, as NAME=PRIM; see {", ".join(wrong)}')
    joints = joint_graph(profile, articulation, namespace, ros2_control)
    return [joints, *(camera_graph(name, camera, prims[name], namespace) for name, camera in cameras.items())]


def make_parser() -> argparse.ArgumentParser:
    """Return what reads the options."""
    parser = argparse.ArgumentParser(description='Connect a robot in Isaac Sim to the topics of a profile.')
    parser.add_argument('--stage', required=True, help='USD file with the robot and its cameras')
    parser.add_argument('--robot', required=True, type=Path, help='robot profile, a YAML file')
    parser.add_argument('--articulation', default='/World/robot', help='prim of the robot (default: %(default)s)')
    parser.add_argument('--cameras', nargs='*', default=[], metavar='NAME=PRIM', help='prim of each camera')
    parser.add_argument('--namespace', default='', help='namespace of the topics')
    parser.add_argument('--ros2-control', action='store_true', help='trajectory controllers are before the joints')
    parser.add_argument('--headless', action='store_true', help='without a window')
    return parser


def main() -> None:
    """Run Isaac Sim until its window is closed or it is told to end."""
    parser = make_parser()
    args = parser.parse_args()
    prims = dict(each.partition('=')[::2] for each in args.cameras)
    try:
        profile = yaml.safe_load(args.robot.read_text())
        wanted = graphs(profile, args.articulation, prims, args.namespace.strip('/'), args.ros2_control)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        parser.error(str(error))
    _run(args.stage, wanted, args.headless)


def _command_topic(profile: Mapping[str, Any]) -> str:
    outputs = {(arm['output']['type'], arm['output']['topic']) for arm in profile['arms'].values()}
    if len(outputs) != 1 or next(iter(outputs))[0] != 'joint_state':
        raise ValueError("the profile's arms must have one output of type joint_state; else use --ros2-control")
    return outputs.pop()[1]


def _run(stage: str, wanted: list[Graph], headless: bool) -> None:
    from isaacsim import SimulationApp

    app = SimulationApp({'headless': headless})  # before everything else of Isaac Sim

    import omni.timeline
    import omni.usd
    from isaacsim.core.utils.extensions import enable_extension

    try:
        for extension in (BRIDGE, NODES):
            enable_extension(extension)
        app.update()
        context = omni.usd.get_context()
        if not context.open_stage(stage):
            raise ValueError(f'{stage} cannot be opened')
        for graph in wanted:
            for prim in graph.prims.values():
                if not context.get_stage().GetPrimAtPath(prim).IsValid():
                    raise ValueError(f'{stage} has no prim {prim}')
            _make(graph)
        omni.timeline.get_timeline_interface().play()
        while app.is_running():
            app.update()
    except ValueError as error:
        print(error, file=sys.stderr, flush=True)  # close() may end the process
        raise SystemExit(1) from None
    finally:
        app.close()


def _make(graph: Graph) -> None:
    import omni.graph.core as og
    import usdrt.Sdf

    keys = og.Controller.Keys
    og.Controller.edit(
        {'graph_path': graph.path, 'evaluator_name': 'execution'},
        {
            keys.CREATE_NODES: list(graph.nodes.items()),
            keys.SET_VALUES: [
                *graph.values.items(),
                *((name, [usdrt.Sdf.Path(prim)]) for name, prim in graph.prims.items()),
            ],
            keys.CONNECT: graph.connections,
        },
    )


if __name__ == '__main__':
    main()
