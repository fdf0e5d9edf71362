"""What is made for Gazebo and Isaac Sim, against the profiles, the messages, SDF's schema and OpenArm's own model."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import yaml

from lingbot_va_core.description_check import description_problems
from lingbot_va_core.resources import find_resource
from lingbot_va_core.robot import load_profile, profile_path
from lingbot_va_ros.launch_arguments import GAZEBO, GRAPH, ISAAC
from lingbot_va_ros.simulator_commands import (
    GAZEBO_HARDWARE,
    TOPIC_HARDWARE,
    gazebo_arguments,
    isaac_command,
    spawner_arguments,
    with_controllers,
    xacro_command,
)

ROOT = Path(__file__).resolve().parents[1]
WORLD = ROOT / 'config' / 'gazebo' / 'two_arms.sdf'
PROFILE = load_profile('gazebo')
ISAAC_PROFILE = yaml.safe_load(profile_path('isaac').read_text())
PRIMS = {name: f'/World/{name}' for name in ISAAC_PROFILE['cameras']}
DEFAULTS = {each.name: each.default for each in (*GAZEBO, *ISAAC, *GRAPH)}
NUMBERS = {'double': 1, 'int': 1, 'unsigned int': 1, 'vector2d': 2, 'vector3': 3, 'color': 4, 'pose': 6}  # types of SDF
SIDES = ('left', 'right')
# What ros_gz_bridge makes of messages of Gazebo, those that are needed here.
GAZEBO_TYPES = {
    'rosgraph_msgs/msg/Clock': 'gz.msgs.Clock',
    'sensor_msgs/msg/Image': 'gz.msgs.Image',
    'sensor_msgs/msg/CameraInfo': 'gz.msgs.CameraInfo',
}
needs_sdformat = pytest.mark.skipif(
    not shutil.which('ign'), reason='sdformat is not installed: apt-get install ignition-tools libsdformat-dev'
)


def urdf(hardware: str = GAZEBO_HARDWARE, namespace: str = '') -> str:
    """The robot as the launch files have it described."""
    program, *arguments = xacro_command(DEFAULTS | {'namespace': namespace}, hardware)
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope='module')
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The URDF for Gazebo in a file."""
    path = tmp_path_factory.mktemp('robot') / 'two_arms.urdf'
    path.write_text(urdf())
    return path


@pytest.fixture(scope='module')
def bridge() -> ModuleType:
    """The script that runs in Isaac Sim."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools'))
        return importlib.import_module('isaac_bridge')


def sdformat(*arguments: str) -> str:
    """What Gazebo's own parser says."""
    done = subprocess.run(['ign', 'sdf', *arguments], capture_output=True, text=True, check=True, timeout=60)
    assert 'Warning' not in done.stderr
    return done.stdout


# The robot


@pytest.mark.parametrize('name', ['gazebo', 'isaac'])
def test_the_profiles_agree_with_the_urdf(name: str, robot: Path, tmp_path: Path) -> None:
    file = tmp_path / 'robot.yaml'
    file.write_text(f'kinematics: {{urdf: {robot}}}\n' + profile_path(name).read_text())
    assert description_problems(load_profile(str(file))) == []
    limits = {each.get('name'): each.find('limit') for each in ElementTree.parse(robot).findall('joint')}
    for joint in PROFILE.joints:
        assert (float(limits[joint.name].get('lower')), float(limits[joint.name].get('upper'))) == (
            joint.lower, joint.upper,
        )  # fmt: skip


def with_all_bodies(robot: Path) -> mujoco.MjModel:
    """The URDF as MuJoCo reads it, in which links of fixed joints stay."""
    spec = mujoco.MjSpec.from_file(str(robot))
    spec.compiler.fusestatic = False
    return spec.compile()


def test_hands_and_fingertips_are_where_openarms_own_model_has_them(robot: Path) -> None:
    ours = with_all_bodies(robot)
    theirs = mujoco.MjModel.from_xml_path(str(find_resource('package://openarm_mujoco/v2/openarm_bimanual.xml', None)))
    bodies = [f'openarm_{side}_ee_{part}' for side in SIDES for part in ('base_link', 'inner_finger', 'outer_finger')]
    names = [theirs.joint(k).name for k in range(theirs.njnt)]
    random, data = np.random.default_rng(0), [mujoco.MjData(ours), mujoco.MjData(theirs)]
    assert {ours.joint(k).name for k in range(ours.njnt)} == set(names)
    for _ in range(20):
        for name in names:
            position = random.uniform(*theirs.joint(name).range)
            for each in data:
                each.joint(name).qpos[0] = position
        places = []
        for model, each in zip((ours, theirs), data, strict=True):
            mujoco.mj_kinematics(model, each)
            base = each.body('shoulders').xpos if model is ours else np.zeros(3)
            places.append([np.concatenate([each.body(name).xpos - base, each.body(name).xmat]) for name in bodies])
        np.testing.assert_allclose(places[0], places[1], atol=1e-6)


def test_cameras_see_the_cube_and_the_fingertips(robot: Path) -> None:
    model = with_all_bodies(robot)
    data = mujoco.MjData(model)
    for joint in PROFILE.joints:
        data.joint(joint.name).qpos[0] = joint.home
    mujoco.mj_kinematics(model, data)
    cube = np.array([float(number) for number in world_model('red_cube').findtext('pose').split()[:3]])
    seen = {'cam_high': cube}
    for side in SIDES:
        hand = data.body(f'openarm_{side}_ee_base_link')
        seen[f'cam_{side}_wrist'] = hand.xpos + hand.xmat.reshape(3, 3) @ (0.0, 0.0, -0.15)
    for name, point in seen.items():
        frame = data.body(f'{name}_optical_frame')
        right, down, ahead = frame.xmat.reshape(3, 3).T @ (point - frame.xpos)
        field = float(sensors(robot)[name].findtext('camera/horizontal_fov'))
        assert ahead > 0.1, name
        assert abs(right / ahead) < np.tan(field / 2), name
        assert abs(down / ahead) < np.tan(field / 2) * 480 / 640, name


def sensors(robot: Path) -> dict[str, ElementTree.Element]:
    """The cameras of the robot, by name."""
    return {each.get('name'): each for each in ElementTree.parse(robot).iter('sensor')}


def test_the_sensors_are_the_cameras_of_the_profile(robot: Path) -> None:
    found = sensors(robot)
    assert list(found) == ['cam_high', 'cam_left_wrist', 'cam_right_wrist']
    for camera in PROFILE.cameras:
        sensor = found[camera.name]
        image = sensor.find('camera/image')
        assert sensor.findtext('topic') == camera.image_topic
        assert sensor.findtext('camera/camera_info_topic') == camera.info_topic
        assert {sensor.findtext('gz_frame_id'), sensor.findtext('camera/optical_frame_id')} == {camera.frame_id}
        assert (int(image.findtext('width')), int(image.findtext('height'))) == (camera.width, camera.height)
        assert float(sensor.findtext('update_rate')) >= 1e9 / PROFILE.clock.video_ns


# ros2_control


@pytest.mark.parametrize('hardware', [GAZEBO_HARDWARE, TOPIC_HARDWARE])
def test_each_joint_of_the_profile_is_commanded_by_position_and_starts_at_home(hardware: str) -> None:
    control = ElementTree.fromstring(urdf(hardware)).find('ros2_control')
    assert control.findtext('hardware/plugin') == hardware
    commanded = {each.get('name'): each for each in control.iter('joint') if each.find('command_interface') is not None}
    assert set(commanded) == {joint.name for joint in PROFILE.joints}
    for joint in PROFILE.joints:
        states = {each.get('name'): each for each in commanded[joint.name].iter('state_interface')}
        assert set(states) == {'position', 'velocity'}
        assert float(states['position'].findtext("param[@name='initial_value']")) == joint.home
    assert all(each.find('command_interface').get('name') == 'position' for each in commanded.values())


@pytest.mark.parametrize(('namespace', 'plugin', 'prefix'), [('', '/', ''), ('/cell/', '/cell', '/cell')])
def test_a_namespace_holds_the_controllers_and_the_topics_behind_them(namespace: str, plugin: str, prefix: str) -> None:
    gazebo = ElementTree.fromstring(urdf(GAZEBO_HARDWARE, namespace))
    assert gazebo.findtext('gazebo/plugin/ros/namespace') == plugin
    assert gazebo.findtext('gazebo/plugin/parameters') == str(ROOT / 'config' / 'gazebo' / 'controllers.yaml')
    topics = ElementTree.fromstring(urdf(TOPIC_HARDWARE, namespace))
    assert topics.find('gazebo/plugin') is None
    parameters = {each.get('name'): each.text for each in topics.findall('ros2_control/hardware/param')}
    assert parameters == {
        'joint_states_topic': f'{prefix}/isaac/joint_states',
        'joint_commands_topic': f'{prefix}/isaac/joint_command',
    }


def test_the_controllers_are_those_that_the_profile_speaks_to() -> None:
    document = yaml.safe_load((ROOT / 'config' / 'gazebo' / 'controllers.yaml').read_text())
    parameters = {name.removeprefix('/**/'): section['ros__parameters'] for name, section in document.items()}
    types = {name: value['type'] for name, value in parameters['controller_manager'].items() if isinstance(value, dict)}
    wanted = {'joint_state_broadcaster': 'joint_state_broadcaster/JointStateBroadcaster'}
    for arm in PROFILE.arms:
        name, topic = arm.output.topic.split('/')
        assert topic == 'joint_trajectory'
        assert parameters[name]['joints'] == [joint.name for joint in arm.output_joints]
        wanted[name] = 'joint_trajectory_controller/JointTrajectoryController'
        name, action = arm.gripper.action.split('/')
        assert action == 'gripper_cmd'
        assert parameters[name]['joint'] == arm.gripper_joint.name
        wanted[name] = 'parallel_gripper_action_controller/GripperActionController'
    assert types == wanted
    assert set(parameters) == {'controller_manager', *wanted} - {'joint_state_broadcaster'}
    assert spawner_arguments(DEFAULTS | {'namespace': 'cell'})[: len(wanted) + 4] == [
        *types, '--param-file', str(ROOT / 'config' / 'gazebo' / 'controllers.yaml'),
        '--controller-manager', '/cell/controller_manager',
    ]  # fmt: skip


# The bridge and the world


def test_the_bridge_brings_the_time_and_the_cameras_with_types_that_both_sides_have() -> None:
    rules = yaml.safe_load((ROOT / 'config' / 'gazebo' / 'bridge.yaml').read_text())
    kinds = {rule['ros_topic_name']: rule['ros_type_name'] for rule in rules}
    wanted = {'/clock': 'rosgraph_msgs/msg/Clock'}
    for camera in PROFILE.cameras:
        wanted |= {camera.image_topic: 'sensor_msgs/msg/Image', camera.info_topic: 'sensor_msgs/msg/CameraInfo'}
    assert kinds == wanted
    for rule in rules:
        assert set(rule) == {'ros_topic_name', 'gz_topic_name', 'ros_type_name', 'gz_type_name', 'direction'}
        package, part, name = rule['ros_type_name'].split('/')
        assert hasattr(importlib.import_module(f'{package}.{part}'), name)
        assert rule['gz_type_name'] == GAZEBO_TYPES[rule['ros_type_name']]
        assert rule['gz_topic_name'] == '/' + rule['ros_topic_name'].lstrip('/')
        assert rule['direction'] == 'GZ_TO_ROS'


def test_gazebo_runs_our_world_at_once_or_another_one() -> None:
    assert gazebo_arguments(DEFAULTS) == f'-r {WORLD}'
    assert gazebo_arguments(DEFAULTS | {'headless': 'true', 'world': 'x.sdf'}) == '-r -s --headless-rendering x.sdf'


def world_model(name: str) -> ElementTree.Element:
    """A model of the world."""
    return next(each for each in ElementTree.parse(WORLD).iter('model') if each.get('name') == name)


def test_the_cube_lies_on_the_table() -> None:
    heights = {}
    for name in ('table', 'red_cube'):
        model = world_model(name)
        size = {each.text for each in model.iter('size')}
        assert len(size) == 1, 'what is seen and what is touched'
        middle, half = float(model.findtext('pose').split()[2]), float(size.pop().split()[2]) / 2
        heights[name] = (middle - half, middle + half)
    assert heights['red_cube'][0] == pytest.approx(heights['table'][1])
    assert heights['table'][0] == pytest.approx(0.0)


@needs_sdformat
def test_the_world_is_valid_sdf() -> None:
    assert 'Valid.' in sdformat('--check', str(WORLD))


@needs_sdformat
def test_the_world_and_the_robot_follow_the_schema_of_sdf(robot: Path) -> None:
    schema = ElementTree.fromstring(sdformat('--describe', '1.9'))
    world = ElementTree.parse(WORLD).getroot()
    assert world.get('version') == '1.9'
    assert violations(world, schema) == []
    newer = {'gz_frame_id', 'camera_info_topic', 'optical_frame_id'}  # read by Gazebo since Garden
    converted = ElementTree.fromstring(sdformat('--print', str(robot)))
    assert [line for line in violations(converted, schema) if line.rsplit('/', 1)[1] not in newer] == []
    next(world.iter('mass')).text = 'heavy'
    next(world.iter('static')).tag = 'stationary'
    assert [line.rsplit('/', 1)[1] for line in violations(world, schema)] == ['stationary', "mass is 'heavy'"]


def violations(element: ElementTree.Element, schema: ElementTree.Element, path: str = '') -> list[str]:
    """What of an element and those in it the schema does not have, the parser itself lets unknown ones pass."""
    path = f'{path}/{element.tag}'
    attributes = {each.get('name'): each.get('required') == '1' for each in schema.findall('attribute')}
    found = [f'{path} has {name}' for name in element.attrib if name not in attributes]
    found += [
        f'{path} lacks {name}' for name, required in attributes.items() if required and name not in element.attrib
    ]
    numbers = NUMBERS.get(schema.get('type'))
    if numbers and not (len((element.text or '').split()) == numbers and all(map(is_number, element.text.split()))):
        found.append(f"{path} is '{element.text}'")
    known = {each.get('name'): each for each in schema.findall('element')}
    if element.tag != 'plugin':  # what is in one is its own
        for child in element:
            found += violations(child, known[child.tag], path) if child.tag in known else [f'{path}/{child.tag}']
    return found


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@needs_sdformat
def test_gazebos_parser_keeps_the_joints_and_the_cameras_of_the_robot(robot: Path) -> None:
    model = ElementTree.fromstring(sdformat('--print', str(robot))).find('model')
    moving = {each.get('name') for each in model.iter('joint') if each.get('type') == 'revolute'}
    assert moving == {joint.name for joint in PROFILE.joints} | {f'openarm_{side}_finger_joint2' for side in SIDES}
    cameras = {each.get('name'): each.findtext('topic') for each in model.iter('sensor')}
    assert cameras == {camera.name: camera.image_topic for camera in PROFILE.cameras}
    assert model.find('plugin').get('filename') == 'gz_ros2_control-system'


# Isaac Sim


def all_graphs(bridge: ModuleType, **changes: Any) -> list[Any]:
    """The action graphs for the profile `isaac`."""
    given = {'articulation': '/World/robot', 'prims': PRIMS, 'namespace': 'cell', 'ros2_control': False} | changes
    return bridge.graphs(given.pop('profile', ISAAC_PROFILE), **given)


def test_isaac_sim_speaks_on_the_topics_of_the_profile(bridge: ModuleType) -> None:
    values = [graph.values for graph in all_graphs(bridge)]
    topics = {value for each in values for name, value in each.items() if name.endswith(':topicName')}
    profile = load_profile('isaac')
    cameras = {topic for camera in profile.cameras for topic in (camera.image_topic, camera.info_topic)}
    assert topics == {'clock', 'joint_states', 'joint_command'} | cameras
    assert {arm.output.topic for arm in profile.arms} == {'joint_command'}
    for camera, value in zip(profile.cameras, values[1:], strict=True):
        assert (value['render.inputs:width'], value['render.inputs:height']) == (camera.width, camera.height)
        assert {value['image.inputs:frameId'], value['info.inputs:frameId']} == {camera.frame_id}
        assert {value['image.inputs:nodeNamespace'], value['info.inputs:nodeNamespace']} == {'cell'}
    assert values[0]['states.inputs:nodeNamespace'] == values[0]['command.inputs:nodeNamespace'] == 'cell'
    assert 'clock.inputs:nodeNamespace' not in values[0], 'the time is for all'


def test_behind_ros2_control_the_joints_have_the_topics_of_the_hardware_plugin(bridge: ModuleType) -> None:
    gazebo = yaml.safe_load(profile_path('gazebo').read_text())
    joints, *cameras = all_graphs(bridge, profile=gazebo, ros2_control=True)
    topics = (joints.values['states.inputs:topicName'], joints.values['command.inputs:topicName'])
    parameters = ElementTree.fromstring(urdf(TOPIC_HARDWARE)).findall('ros2_control/hardware/param')
    assert {f'/{topic}' for topic in topics} == {each.text for each in parameters}
    assert [each.values['image.inputs:topicName'] for each in cameras] == [each.image_topic for each in PROFILE.cameras]


def test_graphs_connect_what_they_have(bridge: ModuleType) -> None:
    paths = set()
    for graph in all_graphs(bridge):
        paths.add(graph.path)
        for name in (*graph.values, *graph.prims):
            assert name.split('.')[0] in graph.nodes
            assert name.split('.')[1].startswith('inputs:')
        for output, goal in graph.connections:
            assert output.split('.')[0] in graph.nodes
            assert output.split('.')[1].startswith('outputs:')
            assert goal.split('.')[0] in graph.nodes
            assert goal.split('.')[1].startswith('inputs:')
        goals = [goal for _, goal in graph.connections]
        assert len(set(goals)) == len(goals)
        assert not set(goals) & {*graph.values, *graph.prims}
        idle = set(graph.nodes) - {end.split('.')[0] for pair in graph.connections for end in pair}
        assert idle == set()
    assert len(paths) == 1 + len(PRIMS)


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'prims': {'cam_high': '/x'}}, 'see cam_left_wrist, cam_right_wrist'),
        ({'prims': PRIMS | {'nose': '/x'}}, 'see nose'),
        ({'profile': yaml.safe_load(profile_path('gazebo').read_text())}, 'one output of type joint_state'),
    ],
)
def test_what_does_not_fit_the_profile_is_refused(bridge: ModuleType, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        all_graphs(bridge, **changes)


def test_the_launch_file_runs_the_bridge_with_options_that_it_has(bridge: ModuleType) -> None:
    cameras = ' '.join(f'{name}={prim}' for name, prim in PRIMS.items())
    given = DEFAULTS | {
        'isaac_python': '/isaac/python.sh', 'stage': 'robot.usd', 'robot': 'gazebo', 'cameras': cameras,
        'namespace': 'cell', 'ros2_control': 'true', 'headless': 'true',
    }  # fmt: skip
    python, script, *options = isaac_command(given)
    assert (python, Path(script)) == ('/isaac/python.sh', ROOT / 'tools' / 'isaac_bridge.py')
    args = bridge.make_parser().parse_args(options)
    assert (args.stage, args.robot, args.namespace) == ('robot.usd', profile_path('gazebo'), 'cell')
    assert args.cameras == cameras.split()
    assert args.ros2_control
    assert args.headless
    assert isaac_command(DEFAULTS) == []
    with pytest.raises(ValueError, match='stage:=FILE'):
        isaac_command(given | {'stage': ''})


def test_controllers_stand_only_before_arms_that_speak_to_them() -> None:
    given = DEFAULTS | {'ros2_control': 'true'}
    assert with_controllers(given | {'robot': 'gazebo'})
    assert not with_controllers(given | {'robot': 'isaac', 'ros2_control': 'false'})
    with pytest.raises(ValueError, match=r"the profile 'isaac' sends commands as joint_state.*say robot:=gazebo"):
        with_controllers(given | {'robot': 'isaac'})


def test_outside_isaac_sim_the_script_says_what_is_wrong_before_it_needs_it(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / 'tools' / 'isaac_bridge.py'), '--stage', 'x.usd', '--robot']
    for robot, reason in (
        (profile_path('isaac'), '--cameras must have each of'),
        (tmp_path / 'none.yaml', 'none.yaml'),
    ):
        done = subprocess.run([*script, str(robot)], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2
        assert reason in done.stderr
        assert 'Traceback' not in done.stderr
