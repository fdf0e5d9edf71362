"""Recording, and the conversion that may follow, as `launch` actions. Only for a ROS machine."""

from launch import Event, LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import ExecuteProcess, LogInfo, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch_ros.substitutions import ExecutableInPackage

from lingbot_va_ros.launch_arguments import RECORD, TRAIN_DATA, folder, record_command, session_commands, shown
from lingbot_va_ros.launch_graph import described

RECORDER_ENDS_S = '60'  # what waits for the disk is written


def record_description() -> LaunchDescription:
    """Describe a recorder; the launch ends with it."""
    return described(RECORD, lambda values: _in_turn([record_command(values, folder(values))]))


def train_data_description() -> LaunchDescription:
    """Describe a session: a recorder, and when it ends by itself, what makes a data set of its bag.

    Ctrl-C ends the launch with the recorder. When it is launched again with the same arguments, the bag is there, and
    it goes on with the conversion.
    """
    return described(TRAIN_DATA, lambda values: _in_turn(session_commands(values)))


def _in_turn(commands: list[list[str]]) -> list[Action]:
    """Run commands one after another; the launch ends after the last one, or with the first that fails."""
    command, *rest = commands
    process = ExecuteProcess(
        cmd=[ExecutableInPackage(executable='lingbot-va', package='lingbot_va'), *command],
        output='screen',
        sigterm_timeout=RECORDER_ENDS_S,
    )

    def ended(event: Event, context: LaunchContext) -> list[Action]:
        if event.returncode == 0 and rest and not context.is_shutdown:
            return _in_turn(rest)
        outstanding = [LogInfo(msg=f'Still to be done: {shown(each)}') for each in rest]
        reason = f'{shown(command)} ended with status {event.returncode}'
        return [*outstanding, *([] if context.is_shutdown else [Shutdown(reason=reason)])]

    return [
        LogInfo(msg=f'Runs {shown(command)}'),
        RegisterEventHandler(OnProcessExit(target_action=process, on_exit=ended)),
        process,
    ]
