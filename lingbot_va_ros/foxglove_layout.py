"""A layout for Foxglove: cameras, imagined video, commands and measured joints, chunks, errors and diagnostics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lingbot_va_core.robot import Arm, RobotProfile
from lingbot_va_ros.recorded_topics import imagined_topic

COLOURS = ('#1f77b4', '#ff7f0e', '#2ca02c', '#d62728', '#9467bd', '#8c564b', '#e377c2')
PALE = '80'  # half transparent
Tree = str | dict[str, Any]


def foxglove_layout(
    profile: RobotProfile,
    resolve: Callable[[str], str] = lambda topic: f'/{topic.lstrip("/")}',
    joint_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return what Foxglove imports as a layout.

    Args:
        profile: of the robot.
        resolve: gives the full name of a topic.
        joint_names: of the messages with measured joints, in their order; None: that of the profile.
    """
    names = [joint.name for joint in profile.joints] if joint_names is None else joint_names
    panels: dict[str, Any] = {}

    def add(kind: str, name: str, title: str, settings: Mapping[str, Any]) -> str:
        panels[f'{kind}!{name}'] = {**settings, 'foxglovePanelTitle': title}
        return f'{kind}!{name}'

    def images(place: str, topic_of: Callable[[Any], str]) -> Tree:
        return _split(
            'row',
            [
                add('Image', f'{place}_{each.name}', f'{each.name}: {place}',
                    {'imageMode': {'imageTopic': resolve(topic_of(each))}})
                for each in profile.cameras
            ],
        )  # fmt: skip

    measured, command = resolve(profile.joint_states_topic), resolve('command')
    joints = [
        add('Plot', f'joints_{arm.side}', f'{arm.side} arm: commanded, measured (pale)',
            _plot(_curves(profile, arm, names, command, measured)))
        for arm in profile.arms
    ]  # fmt: skip
    chunk, error = resolve('action_chunk'), resolve('prediction_error')
    errors = [_path(f'{error}.error', 'imagined', COLOURS[3]), _path(f'{error}.change', 'still picture', COLOURS[0])]
    times = [
        _path(f'{chunk}.latency_ms', 'latency (ms)', COLOURS[3]),
        _path(f'{chunk}.margin_ms', 'margin (ms)', COLOURS[2]),
    ]
    states = [
        _path(f'{command}.chunk', 'chunk that is executed'),
        _path(f'{resolve("status")}.state', 'world model'),
        _path(f'{resolve("action_state")}.state', 'action'),
        _path(f'{resolve("episode")}.episode', 'episode'),
    ]
    below = [
        add('Plot', 'prediction_error', 'prediction error', _plot(errors)),
        add('Plot', 'chunk_times', 'chunks', _plot(times)),
        add('DiagnosticSummary', 'diagnostics', 'diagnostics', {'topicToRender': '/diagnostics', 'minLevel': 0}),
        add('RawMessages', 'status', 'world model', {'topicPath': resolve('status'), 'diffEnabled': False}),
    ]
    rows = [
        images('camera', lambda camera: camera.topic),
        images('imagined', imagined_topic),
        _split('row', joints),
        add('StateTransitions', 'chunks', 'chunk boundaries and states', {'paths': states, 'isSynced': True}),
        _split('row', below),
    ]
    return {
        'configById': panels,
        'globalVariables': {},
        'userNodes': {},
        'playbackConfig': {'speed': 1},
        'layout': _split('column', rows),
    }


def _curves(profile: RobotProfile, arm: Arm, names: Sequence[str], command: str, measured: str) -> list[dict[str, Any]]:
    """Return the curves of an arm: what is commanded, and what is measured in the same colours."""
    value_names = dict(zip(profile.channels.tolist(), profile.value_names, strict=True))
    curves, colours = [], {}
    for number, channel in enumerate(arm.channels):
        name = value_names[channel]
        colours[name] = COLOURS[number % len(COLOURS)]
        curves.append(_path(f'{command}.values[{channel}]', f'{name} command', colours[name]))
    for number, joint in enumerate(arm.joints):
        if joint.name in names:
            colour = colours.get(joint.name, COLOURS[number % len(COLOURS)])
            curves.append(
                _path(f'{measured}.position[{list(names).index(joint.name)}]', f'{joint.name} measured', colour + PALE)
            )
    return curves


def _path(value: str, label: str, colour: str | None = None) -> dict[str, Any]:
    """Return a series; by the time of reception, which is that of playback also for bags of a simulation."""
    path = {'value': value, 'label': label, 'enabled': True, 'timestampMethod': 'receiveTime'}
    return path if colour is None else {**path, 'color': colour}


def _plot(paths: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        'paths': paths,
        'xAxisVal': 'timestamp',
        'isSynced': True,
        'showLegend': True,
        'legendDisplay': 'none' if len(paths) > len(COLOURS) else 'floating',
        'showPlotValuesInLegend': False,
        'showXAxisLabels': True,
        'showYAxisLabels': True,
        'sidebarDimension': 240,
    }


def _split(direction: str, parts: Sequence[Tree]) -> Tree:
    """Put panels side by side ('row') or one above the other ('column'), all of one size."""
    if len(parts) == 1:
        return parts[0]
    return {
        'direction': direction,
        'first': parts[0],
        'second': _split(direction, parts[1:]),
        'splitPercentage': round(100 / len(parts), 3),
    }
