"""The ALOHA robot with tools: a profile whose arms have kinematics, and where asked poses and workspaces."""

from dataclasses import replace

from lingbot_va_core.robot import EndEffector, RobotProfile, Workspace, load_profile
from lingbot_va_core.robot.profile import Kinematics as Description

NAMES = ('waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate')
FILE = 'python://gym_aloha/assets/bimanual_viperx_transfer_cube.xml'


def aloha(in_action: bool = False, joints_in_action: bool = True, box: Workspace | None = None) -> RobotProfile:
    """Return the profile; `box` is the workspace of both arms."""
    profile = load_profile('aloha')
    arms = []
    for arm in profile.arms:
        frames = {'tool_frame': f'vx300s_{arm.side}/gripper_link', 'base_frame': f'vx300s_{arm.side}'}
        joints = tuple(
            joint if joints_in_action or joint is arm.gripper_joint else replace(joint, channel=None)
            for joint in arm.joints
        )
        tool = EndEffector(**frames, in_action=in_action, offset=(0.1347, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
        arms.append(replace(arm, joints=joints, end_effector=tool, workspace=box))
    names = {f'{side}_{name}': f'vx300s_{side}/{name}' for side in ('left', 'right') for name in NAMES}
    return replace(profile, arms=tuple(arms), kinematics=Description('mjcf', FILE, names=names))
