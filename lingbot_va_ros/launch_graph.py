"""The graph as `launch` actions, from the same node table as `lingbot-va up`. Only for a ROS machine."""

from collections.abc import Callable, Iterable

from launch import Event, LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from lingbot_va_ros.launch_arguments import LaunchArgument, graph_arguments, is_true, node_starts
from lingbot_va_ros.node_start import NodeStart
from lingbot_va_ros.node_table import NodeSpec
from lingbot_va_ros.respawns import Respawns
from lingbot_va_ros.ros_environment import dds_environment

ASK_S = 10.0  # a request to a process that has just begun can be lost, so that it is repeated
ASKS = 6  # few: until the launch ends, each that is lost holds one of its threads
FIRST_ASK_S = 5.0  # about as long as a process takes to begin; what is asked earlier can be lost


def graph_description(simulation: bool, **defaults: str) -> LaunchDescription:
    """Describe a simulated or a real graph; `defaults` are those of arguments in place of the usual ones.

    What a deployment cannot set here is in the parameter files.
    """
    arguments = graph_arguments(simulation, **defaults)
    return described(arguments, lambda values: graph_actions(simulation, values))


def described(
    arguments: Iterable[LaunchArgument], actions: Callable[[dict[str, str]], list[Action]]
) -> LaunchDescription:
    """Declare arguments, and take the actions that follow from their values."""
    declared = [DeclareLaunchArgument(each.name, default_value=each.default, description=each.description)
                for each in arguments]  # fmt: skip

    def act(context: LaunchContext) -> list[Action]:
        return actions({each.name: LaunchConfiguration(each.name).perform(context) for each in declared})

    return LaunchDescription([*declared, OpaqueFunction(function=act)])


def graph_actions(simulation: bool, values: dict[str, str]) -> list[Action]:
    """Start the nodes, and bring them to active one after another if `autostart` is true.

    When a required node ends or refuses a transition, everything ends: all nodes get SIGINT, and each leaves through
    its own lifecycle. A node with `respawns` is started again a few times first, once all were active.

    Raises:
        ValueError: a value of an argument is not usable.
    """
    threads = SetEnvironmentVariable('OMP_NUM_THREADS', EnvironmentVariable('OMP_NUM_THREADS', default_value='1'))
    return [threads, *_Graph(node_starts(simulation, values)).actions(is_true('autostart', values['autostart']))]


class _Graph:
    """What the event handlers of the nodes have in common."""

    def __init__(self, starts: tuple[NodeStart, ...]) -> None:
        self._starts = starts
        self._respawns = {start.spec.name: Respawns(start.spec.respawns) for start in starts}
        self._active = False

    def actions(self, autostart: bool) -> list[Action]:
        """Return the nodes with all that is to happen to them."""
        nodes = [_node(start) for start in self._starts]
        actions = [self._on_exit(start, node) for start, node in zip(self._starts, nodes, strict=True)]
        if not autostart:
            return [*actions, *nodes]
        last = [LogInfo(msg='All are active.'), OpaqueFunction(function=self._all_are_active)]
        following = [[_change(node, Transition.TRANSITION_CONFIGURE)] for node in nodes[1:]] + [last]
        for start, node, then in zip(self._starts, nodes, following, strict=True):
            actions += _to_active(start.spec, node, then)
        return [*actions, *nodes, _change(nodes[0], Transition.TRANSITION_CONFIGURE)]

    def _all_are_active(self, context: LaunchContext) -> None:
        self._active = True

    def _on_exit(self, start: NodeStart, node: LifecycleNode) -> Action:
        name = start.spec.name

        def ended(event: Event, context: LaunchContext) -> list[Action] | None:
            if context.is_shutdown:
                return None
            if self._active and self._respawns[name].allowed():
                self._respawns[name].note()
                return [LogInfo(msg=f'{name} has ended. It is started again, the others go on.'), *self._again(start)]
            if start.spec.required:
                return [Shutdown(reason=f'{name} has ended')]
            return [LogInfo(msg=f'{name} has ended. The graph goes on without it.')]

        return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended))

    def _again(self, start: NodeStart) -> list[Action]:
        node = _node(start)
        return [self._on_exit(start, node), *_to_active(start.spec, node, []), node, *_ask_until_heard(start, node)]


def _node(start: NodeStart) -> LifecycleNode:
    spec = start.spec
    values = {name: ParameterValue(value, value_type=type(value)) for name, value in start.parameters.items()}
    return LifecycleNode(
        package='lingbot_va',
        executable=spec.executable,
        name=spec.name,
        namespace=start.namespace,
        parameters=[*start.params_files, *([values] if values else [])],
        remappings=list(start.remaps),
        arguments=['--ros-args', '--log-level', start.log_level],
        output='screen',
        additional_env=dds_environment(spec.dds_profile),
        **({'prefix': f'nice -n {spec.nice}'} if spec.nice else {}),
    )


def _to_active(spec: NodeSpec, node: LifecycleNode, then: list[Action]) -> list[Action]:
    """After configure comes activate, after activate `then`; a refusal ends the launch."""

    def on(start: str, goal: str, entities: list[Action]) -> Action:
        return RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node, start_state=start, goal_state=goal, entities=entities, handle_once=True
            )
        )

    def refused(what: str) -> list[Action]:
        return [Shutdown(reason=f'{spec.name} refused to {what}; its log says why')]

    return [
        on('configuring', 'inactive', [_change(node, Transition.TRANSITION_ACTIVATE)]),
        on('activating', 'active', [LogInfo(msg=f'{spec.name} is active.'), *then]),
        on('configuring', 'unconfigured', refused('configure')),
        on('activating', 'inactive', refused('activate')),
        on('configuring', 'errorprocessing', refused('configure')),
        on('activating', 'errorprocessing', refused('activate')),
    ]


def _ask_until_heard(start: NodeStart, node: LifecycleNode) -> list[Action]:
    """Ask a node that was started again to configure until it begins to; the launch ends if it never does.

    The services of a process that was killed seem to be there for a while, and a request to them is lost.
    """
    heard, asked = False, 0

    def hear(context: LaunchContext) -> None:
        nonlocal heard
        heard = True

    def ask(context: LaunchContext) -> list[Action] | None:
        nonlocal asked
        if heard or context.is_shutdown:
            return None
        if asked == ASKS:
            return [Shutdown(reason=f'{start.spec.name} did not appear again within {FIRST_ASK_S + ASKS * ASK_S:g} s')]
        asked += 1
        again = TimerAction(period=ASK_S, actions=[OpaqueFunction(function=ask)])
        return [_change(node, Transition.TRANSITION_CONFIGURE), again]

    begins = OnStateTransition(
        target_lifecycle_node=node, goal_state='configuring', entities=[OpaqueFunction(function=hear)]
    )
    return [RegisterEventHandler(begins), TimerAction(period=FIRST_ASK_S, actions=[OpaqueFunction(function=ask)])]


def _change(node: LifecycleNode, transition: int) -> Action:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))
