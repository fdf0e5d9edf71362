"""Robot profiles: which joints, tools, outputs and cameras a robot has, and where they live in the universal action."""

from lingbot_va_core.robot.profile import (
    ACTION_DIM,
    CAMERA_LAYOUTS,
    CHANNELS,
    GRIPPERS,
    POSE_CHANNELS,
    Arm,
    Camera,
    EndEffector,
    GripperOutput,
    Joint,
    Kinematics,
    Output,
    ProfileError,
    RobotProfile,
    Workspace,
)
from lingbot_va_core.robot.reader import load_profile, parse_profile, profile_path, robot_names

__all__ = [
    'ACTION_DIM',
    'CAMERA_LAYOUTS',
    'CHANNELS',
    'GRIPPERS',
    'POSE_CHANNELS',
    'Arm',
    'Camera',
    'EndEffector',
    'GripperOutput',
    'Joint',
    'Kinematics',
    'Output',
    'ProfileError',
    'RobotProfile',
    'Workspace',
    'load_profile',
    'parse_profile',
    'profile_path',
    'robot_names',
]
