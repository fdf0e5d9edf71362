"""Compares a profile with the robot's description: are its joints and frames there, and are its limits no looser?"""

from collections.abc import Sequence
from pathlib import Path

from lingbot_va_core.arm_model import Chain, KinematicsError, arm_model, file_limits
from lingbot_va_core.kinematics import ArmKinematics
from lingbot_va_core.limits import JointLimits
from lingbot_va_core.robot import Arm, Kinematics, ProfileError, RobotProfile

TOLERANCE = 1e-4  # rad or m, and per second: descriptions and profiles round
WORLD = 'world'


def description_problems(profile: RobotProfile | ProfileError) -> list[str]:
    """Return every contradiction between the profile and its URDF or MJCF, in one line each; none without one.

    Of a profile that contradicts itself, what is right nevertheless is compared.

    A limit may be tighter than in the description, not looser. Grippers may be missing there.
    """
    kinematics = profile.kinematics
    if kinematics is None:
        return []
    try:
        path = kinematics.path
    except ProfileError as error:
        return [str(error)]
    return [problem for arm in profile.arms for problem in _arm_problems(arm, kinematics, path)]


def _arm_problems(arm: Arm, kinematics: Kinematics, path: Path) -> list[str]:
    problems = []
    names = tuple(kinematics.joint_name(joint.name) for joint in arm.arm_joints)
    if tool := arm.end_effector:
        try:
            ArmKinematics(path, Chain(arm.side, names, tool.tool_frame, tool.base_frame, tool.offset))
        except KinematicsError as error:
            problems.append(f'arms.{arm.side}: {error}')
    try:
        limits = _limits(path, names)
    except KinematicsError as error:
        if not problems:
            problems.append(f'arms.{arm.side}: {error}')
    else:
        for index, joint in enumerate(arm.arm_joints):
            problems += _looser(arm, joint.name, limits, index, path)
    gripper = arm.gripper_joint
    if gripper:
        try:
            limits = _limits(path, (kinematics.joint_name(gripper.name),))
        except KinematicsError:
            return problems
        problems += _looser(arm, gripper.name, limits, 0, path)
    return problems


def _limits(path: Path, names: Sequence[str]) -> JointLimits:
    chain = Chain('', tuple(names), WORLD, WORLD)
    return file_limits(path, arm_model(path, chain), chain.joints)


def _looser(arm: Arm, name: str, limits: JointLimits, index: int, path: Path) -> list[str]:
    joint = next(joint for joint in arm.joints if joint.name == name)
    found = []
    for field, sign in (('lower', -1), ('upper', 1), ('velocity', 1)):
        ours, theirs = getattr(joint, field), float(getattr(limits, field)[index])
        if sign * (ours - theirs) > TOLERANCE:
            found.append(
                f'arms.{arm.side}.joints.{name}.{field} is {ours:g}, but {path.name} allows {theirs:g}; a profile can '
                'only tighten it'
            )
    return found
