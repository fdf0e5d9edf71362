"""A robot in MuJoCo: what is known of it, and the way between the profile's joints and the compiled scene."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from lingbot_va_core.robot import RobotProfile
from lingbot_va_sim.errors import SimulationError


@dataclass(frozen=True)
class Drive:
    """A joint of the model that moves with a joint of the profile: model = sign * profile."""

    joint: str
    sign: float = 1.0


@dataclass(frozen=True)
class RobotDescription:
    """What differs between simulated robots.

    Attributes:
        title: what people call it.
        load_scene: builds a scene by its name, with this project's cameras and meshes that render fast.
        drives: for each joint that a profile may have, the model's joints that it moves. The first is the one that is
            measured; those without an actuator follow by a constraint of the model.
        start_pose: where each of these joints starts, rad (m for fingers that slide).
    """

    title: str
    load_scene: Callable[[str], mujoco.MjSpec]
    drives: Mapping[str, tuple[Drive, ...]]
    start_pose: Mapping[str, float]

    def fits(self, profile: RobotProfile) -> bool:
        """Whether the robot has all joints of the profile."""
        return all(joint.name in self.drives for joint in profile.joints)


class SimulatedRobot:
    """The compiled scene, and the way between joint vectors in profile order and MuJoCo's state and controls.

    Attributes:
        description: what is known of the robot.
        model: the compiled model.
        joint_names: the joints of the profile, in its order.
    """

    def __init__(
        self,
        description: RobotDescription,
        scene: str,
        profile: RobotProfile,
        furnish: Callable[[mujoco.MjSpec], None] = lambda spec: None,
    ) -> None:
        """Compile a scene of the robot; `furnish` puts the objects of a task in.

        Raises:
            SimulationError: the scene is not installed, or the profile has a joint or camera that the robot lacks.
        """
        self.description = description
        self.joint_names = tuple(joint.name for joint in profile.joints)
        self._require('joint', self.joint_names, tuple(description.drives))
        spec = description.load_scene(scene)
        furnish(spec)
        spec.visual.quality.shadowsize = 0
        spec.visual.quality.offsamples = 0
        spec.visual.global_.offwidth = max(camera.width for camera in profile.cameras)
        spec.visual.global_.offheight = max(camera.height for camera in profile.cameras)
        self.model = model = spec.compile()
        cameras = [model.camera(index).name for index in range(model.ncam)]
        self._require('camera', [camera.name for camera in profile.cameras], cameras)

        actuators = {int(joint): actuator for actuator, joint in enumerate(model.actuator_trnid[:, 0])}
        driven = [
            (source, drive.sign, actuators[model.joint(drive.joint).id])
            for source, name in enumerate(self.joint_names)
            for drive in description.drives[name]
            if model.joint(drive.joint).id in actuators
        ]
        self._sources, self._signs, self._controls = (np.array(column) for column in zip(*driven, strict=True))
        measured = [description.drives[name][0] for name in self.joint_names]
        self._measured_signs = np.array([drive.sign for drive in measured])
        self._qpos = np.array([model.joint(drive.joint).qposadr[0] for drive in measured])
        self._qvel = np.array([model.joint(drive.joint).dofadr[0] for drive in measured])

    @property
    def start_positions(self) -> np.ndarray:
        """The start pose, float64 [joints]."""
        return np.array([self.description.start_pose[name] for name in self.joint_names])

    def reset(self, data: mujoco.MjData) -> None:
        """Put all joints into the start pose, at rest, and command them to stay, whatever the profile moves."""
        mujoco.mj_resetData(self.model, data)
        for name, position in self.description.start_pose.items():
            for drive in self.description.drives[name]:
                data.joint(drive.joint).qpos[0] = drive.sign * position
        actuated = self.model.jnt_qposadr[self.model.actuator_trnid[:, 0]]
        data.ctrl[:] = data.qpos[actuated]

    def command(self, data: mujoco.MjData, targets: np.ndarray) -> None:
        """Set the set-points of the position drives from `targets` [joints]; MuJoCo clamps them to its limits."""
        data.ctrl[self._controls] = targets[self._sources] * self._signs

    def positions(self, data: mujoco.MjData) -> np.ndarray:
        """Return the measured positions, float64 [joints]."""
        return data.qpos[self._qpos] * self._measured_signs

    def velocities(self, data: mujoco.MjData) -> np.ndarray:
        """Return the measured velocities, float64 [joints]."""
        return data.qvel[self._qvel] * self._measured_signs

    def _require(self, what: str, wanted: Sequence[str], available: Sequence[str]) -> None:
        lacking = [name for name in wanted if name not in available]
        if lacking:
            raise SimulationError(
                f'the {self.description.title} model has no {what} {", ".join(lacking)}; it has {", ".join(available)}'
            )
