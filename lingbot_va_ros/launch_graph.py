"""The graph as `launch` actions, from the same node table as `lingbot-va up`. Only for a ROS machine."""

import os
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.events import matches_action
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from lingbot_va_core.resources import share_dir
from lingbot_va_ros.node_table import NodeSpec, launch_arguments, nodes
from lingbot_va_ros.ros_environment import PROFILE_VARIABLE, profile_path

TRUE = ('true', '1')


def graph_description(simulation: bool) -> LaunchDescription:
    """Describe a simulated or a real graph; what a deployment cannot set here is in the parameter files."""
    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.description)
        for argument in launch_arguments(simulation)
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=graph_actions, kwargs={'simulation': simulation})])


def graph_actions(context: LaunchContext, simulation: bool) -> list[Action]:
    """Start the nodes, and bring them to active one after another if `autostart` is true; for an OpaqueFunction.

    Reads the arguments that `launch_arguments` names; an empty one leaves its parameter to the files. When a required
    node ends or refuses a transition, everything ends: all nodes get SIGINT, and each leaves through its own lifecycle.
    That goes for perception as well, which `lingbot-va up` starts again.
    """
    names = [argument.name for argument in launch_arguments(simulation)]
    arguments = {name: LaunchConfiguration(name).perform(context) for name in names}
    specs = nodes(simulation)
    actions = [_node(spec, arguments) for spec in specs]
    environment = [_default('OMP_NUM_THREADS', '1')]
    if arguments['autostart'].lower() not in TRUE:
        return [*environment, *actions]
    handlers = []
    for spec, node, following in zip(specs, actions, [*actions[1:], None], strict=True):
        handlers += _to_active(spec, node, following)
    return [*environment, *handlers, *actions, _change(actions[0], Transition.TRANSITION_CONFIGURE)]


def _node(spec: NodeSpec, arguments: dict[str, str]) -> LifecycleNode:
    files = [str(share_dir() / 'config' / 'lingbot_va.yaml')]
    if arguments['params_file']:
        files.append(str(Path(arguments['params_file']).expanduser()))
    values = {
        name: ParameterValue(arguments[name], value_type=str) for name in ('robot', 'task') if arguments.get(name)
    }
    if arguments['use_sim_time']:
        values['use_sim_time'] = ParameterValue(arguments['use_sim_time'], value_type=bool)
    options = {'prefix': f'nice -n {spec.nice}'} if spec.nice else {}
    if spec.required:
        options['on_exit'] = [Shutdown(reason=f'{spec.name} has ended')]
    return LifecycleNode(
        package='lingbot_va',
        executable=spec.executable,
        name=spec.name,
        namespace=arguments['namespace'],
        parameters=[*files, *([values] if values else [])],
        arguments=['--ros-args', '--log-level', arguments['log_level']],
        output='screen',
        additional_env={PROFILE_VARIABLE: os.environ.get(PROFILE_VARIABLE, profile_path(spec.dds_profile))},
        **options,
    )


def _to_active(spec: NodeSpec, node: LifecycleNode, following: LifecycleNode | None) -> list[Action]:
    """After configure comes activate, after activate the next node; a refusal ends the launch."""
    activate = _change(node, Transition.TRANSITION_ACTIVATE)
    proceed = [LogInfo(msg=f'{spec.name} is active.')]
    proceed += [_change(following, Transition.TRANSITION_CONFIGURE)] if following else [LogInfo(msg='All are active.')]

    def on(start: str, goal: str, entities: list[Action]) -> Action:
        return RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, start_state=start, goal_state=goal, entities=entities, handle_once=True
            )
        )

    def refused(what: str) -> list[Action]:
        return [Shutdown(reason=f'{spec.name} refused to {what}; its log says why')]

    return [
        on('configuring', 'inactive', [activate]),
        on('activating', 'active', proceed),
        on('configuring', 'unconfigured', refused('configure')),
        on('activating', 'inactive', refused('activate')),
        on('configuring', 'errorprocessing', refused('configure')),
        on('activating', 'errorprocessing', refused('activate')),
    ]


def _change(node: LifecycleNode, transition: int) -> Action:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))


def _default(name: str, value: str) -> Action:
    return SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
