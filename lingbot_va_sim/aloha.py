"""The bimanual ALOHA robot of gym-aloha in MuJoCo: its scene, its cameras and where the profile's joints are."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from lingbot_va_core.robot import RobotProfile
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.visual_meshes import add_coarse_visuals

SIDES = ('left', 'right')
START_ARM_POSE = {  # published with ACT; rad, and m of one finger
    'waist': 0.0, 'shoulder': -0.96, 'elbow': 1.16, 'forearm_roll': 0.0, 'wrist_angle': -0.3, 'wrist_rotate': 0.0,
    'gripper': 0.02239,
}  # fmt: skip
START_POSE = {f'{side}_{name}': value for side in SIDES for name, value in START_ARM_POSE.items()}

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
VISUAL_DETAIL_M = 0.002  # about a pixel of a wrist camera; halves the time to render


def _drives(joint: str) -> tuple[tuple[str, float], ...]:
    """Return the model's joints that a profile joint moves and their signs; the second finger mirrors the first."""
    side, _, name = joint.partition('_')
    if name == 'gripper':
        return (f'vx300s_{side}/left_finger', 1.0), (f'vx300s_{side}/right_finger', -1.0)
    return ((f'vx300s_{side}/{name}', 1.0),)


class AlohaRobot:
    """The compiled scene, and the way between joint vectors in profile order and MuJoCo's state and controls.

    Attributes:
        model: the compiled model.
        joint_names: the joints of the profile, in its order.
    """

    def __init__(self, scene: str, profile: RobotProfile) -> None:
        """Load a scene of gym-aloha by file name.

        Raises:
            SimulationError: gym-aloha is not installed, or the profile has a joint or camera that the robot lacks.
        """
        self.joint_names = tuple(joint.name for joint in profile.joints)
        _require('joint', self.joint_names, tuple(START_POSE))
        self.model = _compile(scene, profile)
        _require(
            'camera',
            [camera.name for camera in profile.cameras],
            [self.model.camera(index).name for index in range(self.model.ncam)],
        )
        drives = [(name, source, sign) for source, joint in enumerate(self.joint_names)
                  for name, sign in _drives(joint)]  # fmt: skip
        self._sources = np.array([source for _, source, _ in drives])
        self._signs = np.array([sign for _, _, sign in drives])
        self._drive_qpos = np.array([self.model.joint(name).qposadr[0] for name, _, _ in drives])
        actuated = {int(joint): actuator for actuator, joint in enumerate(self.model.actuator_trnid[:, 0])}
        self._drive_ctrl = np.array([actuated[self.model.joint(name).id] for name, _, _ in drives])
        measured = [self.model.joint(_drives(joint)[0][0]) for joint in self.joint_names]
        self._qpos = np.array([joint.qposadr[0] for joint in measured])
        self._qvel = np.array([joint.dofadr[0] for joint in measured])

    @property
    def start_positions(self) -> np.ndarray:
        """The published start pose, float64 [joints]."""
        return np.array([START_POSE[name] for name in self.joint_names])

    def reset(self, data: mujoco.MjData) -> None:
        """Put both arms into the start pose, at rest, and command them to stay, whatever the profile moves."""
        mujoco.mj_resetData(self.model, data)
        for joint, position in START_POSE.items():
            for name, sign in _drives(joint):
                data.joint(name).qpos[0] = sign * position
        actuated = self.model.jnt_qposadr[self.model.actuator_trnid[:, 0]]
        data.ctrl[:] = data.qpos[actuated]

    def command(self, data: mujoco.MjData, targets: np.ndarray) -> None:
        """Set the set-points of the position drives from `targets` [joints]; MuJoCo clamps them to its limits."""
        data.ctrl[self._drive_ctrl] = targets[self._sources] * self._signs

    def positions(self, data: mujoco.MjData) -> np.ndarray:
        """Return the measured positions, float64 [joints]."""
        return data.qpos[self._qpos]

    def velocities(self, data: mujoco.MjData) -> np.ndarray:
        """Return the measured velocities, float64 [joints]."""
        return data.qvel[self._qvel]


def _compile(scene: str, profile: RobotProfile) -> mujoco.MjModel:
    """Compile a scene with the cameras of this project, without what makes rendering slow."""
    package = find_spec('gym_aloha')
    if package is None:
        raise SimulationError("the ALOHA scene comes with gym-aloha, which is not installed: pip install 'gym-aloha'")
    assets = Path(package.origin).parent / 'assets'
    spec = mujoco.MjSpec.from_file(str(assets / scene))
    add_coarse_visuals(spec, assets, VISUAL_DETAIL_M)
    angle = np.radians(HEAD_ELEVATION_DEG)
    backward = np.array([0.0, -np.cos(angle), np.sin(angle)])  # the camera's z axis; x is to the right, y up
    head = spec.worldbody.add_camera(name='cam_high', fovy=HEAD_FOVY_DEG)
    head.pos = np.array(HEAD_TARGET) + HEAD_DISTANCE_M * backward
    head.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
    head.alt.xyaxes = [1.0, 0.0, 0.0, 0.0, np.sin(angle), np.cos(angle)]
    for side in SIDES:
        wrist = spec.camera(f'{side}_wrist')
        wrist.name, wrist.fovy, wrist.pos = f'cam_{side}_wrist', WRIST_FOVY_DEG, WRIST_POSITION
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = max(camera.width for camera in profile.cameras)
    spec.visual.global_.offheight = max(camera.height for camera in profile.cameras)
    return spec.compile()


def _require(what: str, wanted: Sequence[str], available: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in available]
    if lacking:
        raise SimulationError(f'the ALOHA model has no {what} {", ".join(lacking)}; it has {", ".join(available)}')
