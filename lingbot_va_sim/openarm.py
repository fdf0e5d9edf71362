"""The bimanual OpenArm of openarm-mujoco in its cell: the scene, its cameras and where the profile's joints are."""

import mujoco
import numpy as np

from lingbot_va_core.resources import find_resource
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.simulated_robot import Drive, RobotDescription
from lingbot_va_sim.visual_meshes import add_coarse_visuals

SIDES = ('left', 'right')
START_ARM_POSE = {  # of the right arm: hands drawn back and open, so that they hide nothing on the table; rad
    'joint1': -0.8, 'joint2': 0.1, 'joint3': 0.0, 'joint4': 2.2, 'joint5': 0.0, 'joint6': 0.3, 'joint7': 0.0,
    'finger_joint1': -0.6,
}  # fmt: skip
MIRRORED = ('joint1', 'joint2', 'joint6', 'finger_joint1')  # turn the other way on the left arm

# The head camera hangs under the roof of the cell, in front of the shoulders, and looks down at the table: the arms
# come in from below, as in one's own view.
HEAD_POSITION = (0.31, 0.0, 1.78)
HEAD_TARGET = (0.43, 0.0, 1.03)
HEAD_FOVY_DEG = 40.0
# The model's own wrist cameras are so near to the fingers that what these hold is cut by the near plane. These sit on
# the back of the hand and look at the fingertips; in the frame of the hand x is up and -z is where the fingers point.
WRIST_POSITION = (0.12, 0.0, 0.03)
WRIST_TARGET = (0.0, 0.0, -0.17)
WRIST_FOVY_DEG = 60.0
HEADLIGHT, LAMP = (0.2, 0.2, 0.2), (0.35, 0.35, 0.35)  # less than the model's, which leave the table without shades
VISUAL_DETAIL = 0.12  # share of triangles that is rendered


def _load_scene(scene: str) -> mujoco.MjSpec:
    """Read a scene of openarm-mujoco by its path in the package."""
    try:
        path = find_resource(f'package://openarm_mujoco/v2/{scene}', None)
    except FileNotFoundError as error:
        raise SimulationError(
            "the OpenArm scene comes with openarm-mujoco, which is not installed: pip install 'openarm-mujoco'"
        ) from error
    spec = mujoco.MjSpec.from_file(str(path))
    add_coarse_visuals(spec, path.parents[1] / 'assets', VISUAL_DETAIL)
    _aim(spec.worldbody.add_camera(name='cam_high', fovy=HEAD_FOVY_DEG), HEAD_POSITION, HEAD_TARGET)
    for side in SIDES:
        hand = spec.body(f'openarm_{side}_ee_base_link')
        _aim(hand.add_camera(name=f'cam_{side}_wrist', fovy=WRIST_FOVY_DEG), WRIST_POSITION, WRIST_TARGET)
    spec.visual.headlight.diffuse = HEADLIGHT
    for light in spec.lights:
        light.diffuse = LAMP
    return spec


def _aim(camera: mujoco.MjsCamera, position: tuple[float, ...], target: tuple[float, ...]) -> None:
    """Put a camera somewhere and let it look at a target, the image's right towards -y."""
    right, backward = np.array((0.0, -1.0, 0.0)), np.subtract(position, target)
    backward /= np.linalg.norm(backward)
    camera.pos = position
    camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    camera.alt.xyaxes = [*right, *np.cross(backward, right)]


def _drives(side: str, name: str) -> tuple[Drive, ...]:
    if name == 'finger_joint1':  # the second finger follows the first
        return Drive(f'openarm_{side}_finger_joint1'), Drive(f'openarm_{side}_finger_joint2')
    return (Drive(f'openarm_{side}_{name}'),)


OPENARM = RobotDescription(
    title='OpenArm',
    load_scene=_load_scene,
    drives={f'openarm_{side}_{name}': _drives(side, name) for side in SIDES for name in START_ARM_POSE},
    start_pose={
        f'openarm_{side}_{name}': -value if side == 'left' and name in MIRRORED else value
        for side in SIDES
        for name, value in START_ARM_POSE.items()
    },
)
