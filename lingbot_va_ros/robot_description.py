"""A robot profile for people, as lines of text, and for programs, as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lingbot_va_core.clock import NANOSECONDS
from lingbot_va_core.robot import Arm, Camera, RobotProfile

COLUMNS = ('channel', 'lower', 'upper', 'velocity', 'acceleration', 'home', 'margin')


def describe_robot(profile: RobotProfile, path: Path) -> dict[str, Any]:
    """Return the profile as JSON: what it says, and what follows from it."""
    document = asdict(profile)
    clock, kinematics = profile.clock, document['kinematics']
    if kinematics:
        kinematics['folder'] = str(kinematics['folder'])
    document['clock'] = {
        'control_hz': NANOSECONDS / clock.action_ns,
        'video_hz': NANOSECONDS / clock.video_ns,
        'actions_per_latent': clock.actions_per_latent,
    }
    values = [{'name': n, 'channel': c} for n, c in zip(profile.value_names, profile.channels.tolist(), strict=True)]
    return {'file': str(path), **document, 'action_vector': values}


def robot_lines(profile: RobotProfile, path: Path) -> list[str]:
    """Describe a profile in lines: rates, arms with joints and outputs, cameras."""
    clock, kinematics = profile.clock, profile.kinematics
    control, video = NANOSECONDS / clock.action_ns, NANOSECONDS / clock.video_ns
    lines = [
        f'robot         {profile.name}: {profile.description}',
        f'file          {path}',
        f'rates         {control:g} Hz control, {video:g} Hz video, {clock.actions_per_latent} actions a latent frame',
        f'action        {len(profile.channels)} values in the channels {_ranges(profile.channels.tolist())}',
        f'kinematics    {f"{kinematics.format} {kinematics.source}" if kinematics else "none"}',
        f'joint states  {profile.joint_states_topic} (sensor_msgs/JointState)',
    ]
    for arm in profile.arms:
        lines += ['', f'{arm.side} arm', *_arm_lines(arm)]
    lines += ['', f'cameras       {len(profile.cameras)}, layout {profile.camera_layout}']
    width = max(len(camera.name) for camera in profile.cameras)
    lines += [
        f'  {camera.name:{width}}  {camera.width} x {camera.height}  {camera.topic}, {camera.info_topic}, '
        f'frame {camera.frame_id}{_framing(camera)}'
        for camera in profile.cameras
    ]
    return lines


def _framing(camera: Camera) -> str:
    words = ', rectified' * camera.rectify
    if camera.crop:
        x, y, width, height = camera.crop
        words += f', cut to {width} x {height} at ({x}, {y})'
    if camera.resize:
        words += f', resized to {camera.resize[0]} x {camera.resize[1]}'
    return words


def _arm_lines(arm: Arm) -> list[str]:
    lines = []
    if arm.joints:
        width = max(len(joint.name) for joint in arm.joints)
        lines.append(f'  {"joint":{width}}' + ''.join(f'{name:>13}' for name in COLUMNS))
        for joint in arm.joints:
            cells = ['-' if (value := getattr(joint, name)) is None else f'{value:g}' for name in COLUMNS]
            lines.append(f'  {joint.name:{width}}' + ''.join(f'{cell:>13}' for cell in cells))
    if arm.output:
        lines.append(f'  output        {arm.output.type} on {arm.output.topic}' + ', stamped' * arm.output.stamped)
    elif arm.output_joints:
        lines.append('  output        none: the arm is commanded by its pose, its joints are only measured')
    if gripper := arm.gripper:
        where = (
            'with the joints' if gripper.type == 'in_output' else f'{gripper.type} on {gripper.topic or gripper.action}'
        )
        lines.append(f'  gripper       {where}' + f', from {gripper.threshold:g} on' * bool(gripper.action))
    if tool := arm.end_effector:
        use = 'in the action' if tool.in_action else 'not in the action'
        if arm.needs_ik:
            use += ', joints by inverse kinematics'
        lines.append(f'  end effector  {tool.tool_frame} in {tool.base_frame}, {use}')
        for kind, topic in (('PoseStamped', tool.pose_topic), ('MultiDOFJointTrajectory', tool.trajectory_topic)):
            lines += [f'                {kind} on {topic}'] * bool(topic)
    if box := arm.workspace:
        sides = (f'{axis} {low:g} to {high:g}' for axis, low, high in zip('xyz', box.lower, box.upper, strict=True))
        lines.append(f'  workspace     {", ".join(sides)} m')
    return lines


def _ranges(channels: list[int]) -> str:
    """Write sorted numbers as in '0-6, 28'."""
    runs: list[list[int]] = []
    for channel in sorted(channels):
        if runs and channel == runs[-1][-1] + 1:
            runs[-1].append(channel)
        else:
            runs.append([channel])
    return ', '.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else f'{run[0]}' for run in runs)
