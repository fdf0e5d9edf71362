"""The bimanual ALOHA robot of gym-aloha in MuJoCo: its scenes, its cameras and where the profile's joints are."""

from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.simulated_robot import Drive, RobotDescription
from lingbot_va_sim.visual_meshes import add_coarse_visuals

SIDES = ('left', 'right')
START_ARM_POSE = {  # published with ACT; rad, and m of one finger
    'waist': 0.0, 'shoulder': -0.96, 'elbow': 1.16, 'forearm_roll': 0.0, 'wrist_angle': -0.3, 'wrist_rotate': 0.0,
    'gripper': 0.02239,
}  # fmt: skip

# The head camera looks at the workspace from the front, 65 degrees down: steep enough to tell where an object lies,
# inclined enough to tell how high a gripper is. From afar, so that high and low things have nearly the same scale.
HEAD_TARGET = (0.0, 0.5, 0.05)
HEAD_ELEVATION_DEG = 65.0
HEAD_DISTANCE_M = 1.6
HEAD_FOVY_DEG = 14.4  # 0.4 m x 0.6 m at the target
# The stock wrist cameras see little but the gripper; these see the table too, because the near plane of the scene
# (0.17 m) cuts the hand away.
WRIST_POSITION = (-0.02, 0.0, 0.14)
WRIST_FOVY_DEG = 60.0
VISUAL_DETAIL = 0.5  # share of triangles that is rendered; with much less the bar of the gripper loses its shape


def _load_scene(scene: str) -> mujoco.MjSpec:
    """Read a scene of gym-aloha by file name."""
    package = find_spec('gym_aloha')
    if package is None:
        raise SimulationError("the ALOHA scene comes with gym-aloha, which is not installed: pip install 'gym-aloha'")
    assets = Path(package.origin).parent / 'assets'
    spec = mujoco.MjSpec.from_file(str(assets / scene))
    add_coarse_visuals(spec, assets, VISUAL_DETAIL)
    angle = np.radians(HEAD_ELEVATION_DEG)
    backward = np.array([0.0, -np.cos(angle), np.sin(angle)])  # the camera's z axis; x is to the right, y up
    head = spec.worldbody.add_camera(name='cam_high', fovy=HEAD_FOVY_DEG)
    head.pos = np.array(HEAD_TARGET) + HEAD_DISTANCE_M * backward
    head.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    head.alt.xyaxes = [1.0, 0.0, 0.0, 0.0, np.sin(angle), np.cos(angle)]
    for side in SIDES:
        wrist = spec.camera(f'{side}_wrist')
        wrist.name, wrist.fovy, wrist.pos = f'cam_{side}_wrist', WRIST_FOVY_DEG, WRIST_POSITION
    return spec


def _drives(side: str, name: str) -> tuple[Drive, ...]:
    if name == 'gripper':  # the second finger mirrors the first
        return Drive(f'vx300s_{side}/left_finger'), Drive(f'vx300s_{side}/right_finger', -1.0)
    return (Drive(f'vx300s_{side}/{name}'),)


ALOHA = RobotDescription(
    title='ALOHA',
    load_scene=_load_scene,
    drives={f'{side}_{name}': _drives(side, name) for side in SIDES for name in START_ARM_POSE},
    start_pose={f'{side}_{name}': value for side in SIDES for name, value in START_ARM_POSE.items()},
)
