"""Recording, and the conversion that may follow, as `launch` actions. Only for a ROS machine."""

import os

from launch import Event, LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import ExecuteProcess, LogInfo, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch_ros.substitutions import ExecutableInPackage

from lingbot_va_ros.launch_arguments import (
    COMMAND,
    RECORD,
    TRAIN_DATA,
    folder,
    record_command,
    session_commands,
    shown,
    with_rosbag2,
)
from lingbot_va_ros.launch_graph import described
from lingbot_va_ros.rosbag2_command import rosbag2_recording

RECORDER_ENDS_S = '60'  # what waits for the disk is written
_OURS = ExecutableInPackage(executable=COMMAND, package='lingbot_va')


def record_description() -> LaunchDescription:
    """Describe a recorder; the launch ends with it."""
    return described(RECORD, lambda values: _in_turn([_recorder(values)]))


def train_data_description() -> LaunchDescription:
    """Describe a session: a recorder, and when it ends by itself, what makes a data set of its bag.

    Ctrl-C ends the launch with the recorder. When it is launched again with the same arguments, the bag is there, and
    it goes on with the conversion.
    """
    return described(TRAIN_DATA, lambda values: _in_turn(session_commands(values)))


def _recorder(values: dict[str, str]) -> list[str]:
    if with_rosbag2(values):
        return rosbag2_recording(values, folder(values), os.environ.get('ROS_DISTRO', ''))
    return record_command(values, folder(values))


def _in_turn(commands: list[list[str]]) -> list[Action]:
    """Run commands one after another; the launch ends after the last one, or with the first that fails."""
    command, *rest = commands
    program, *arguments = command
    process = ExecuteProcess(
        cmd=[_OURS if program == COMMAND else program, *arguments],
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
