"""Where the tools are for given joints, and joints for a given pose of a tool, from the robot's URDF or MJCF.

MuJoCo reads both formats and computes the kinematics; mink solves the inverse as a quadratic program. Both are imported
when the first robot is read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lingbot_va_core.arm_model import TOOL, Chain, KinematicsError, arm_model, file_limits, fixed_frame, levers
from lingbot_va_core.limits import JointLimits
from lingbot_va_core.robot import RobotProfile

if TYPE_CHECKING:
    import mujoco

POSITION_TOLERANCE = 1e-3  # m
ROTATION_TOLERANCE = 1e-2  # rad
ORIENTATION_COST = 0.2  # m per rad: what an error of the orientation weighs where a pose cannot be reached
DAMPING = 1e-6  # keeps steps finite near singularities
LM_DAMPING = 0.1  # times the squared error: careful steps far from the pose
PROGRESS = 1e-4  # m, with angles weighed as above: less in one step is none


@dataclass(frozen=True)
class Solution:
    """A step of inverse kinematics.

    Attributes:
        joints: float64 [joints], within the limits.
        reached: the tool is within 1 mm and 0.01 rad of the pose.
        unreachable: it is not, and no step within the limits brings it nearer.
        position_error: m.
        rotation_error: rad.
    """

    joints: np.ndarray
    reached: bool
    unreachable: bool
    position_error: float
    rotation_error: float


class ArmKinematics:
    """Kinematics of one arm. Joint vectors are float64 [joints] in the order of the chain.

    Poses are x y z and a unit quaternion x y z w of the tool in the base frame, float64 [7]; m.

    Attributes:
        limits: of the joints as the file says, infinite where it says nothing.
        levers: how far the tool moves at most per unit of each joint, float64 [joints]; m.
    """

    def __init__(self, path: Path, chain: Chain) -> None:
        """Read a robot.

        Raises:
            KinematicsError: the file cannot be read or lacks a joint or frame of the chain.
        """
        import mujoco

        self._mujoco, self.chain = mujoco, chain
        self._model = arm_model(path, chain)
        self._data = mujoco.MjData(self._model)
        self._order = np.array([self._model.joint(name).qposadr[0] for name in chain.joints])
        self.limits = file_limits(path, self._model, chain.joints)
        self.levers = levers(self._model, chain.joints)
        self._tool = self._model.site(TOOL).id
        self._base, self._base_matrix = fixed_frame(path, self._model, chain.base_frame)
        self._base_wxyz, self._to_base = np.empty(4), np.empty(4)
        mujoco.mju_mat2Quat(self._base_wxyz, self._base_matrix.ravel())
        mujoco.mju_negQuat(self._to_base, self._base_wxyz)
        self._solver: _Solver | None = None

    def pose(self, joints: np.ndarray) -> np.ndarray:
        """Return the pose of the tool, [7]; its quaternion has w >= 0."""
        self._move(joints)
        pose = np.empty(7)
        pose[:3] = (self._data.site_xpos[self._tool] - self._base) @ self._base_matrix
        pose[3:] = self._rotation()[[1, 2, 3, 0]]
        return pose

    def poses(self, joints: np.ndarray) -> np.ndarray:
        """Return poses of the tool [n, 7] for joints [n, joints], as in `pose`."""
        return np.stack([self.pose(row) for row in joints])

    def positions(self, joints: np.ndarray) -> np.ndarray:
        """Return the positions of the tool [n, 3] for joints [n, joints]."""
        found = np.empty((len(joints), 3))
        for i, row in enumerate(joints):
            self._move(row)
            found[i] = self._data.site_xpos[self._tool]
        return (found - self._base) @ self._base_matrix

    def set_limits(self, limits: JointLimits, dt: float) -> None:
        """Set the limits that `track` keeps, [joints] in the order of the chain, and its control period (s)."""
        self._solver = _Solver(self._model, self._order, self.chain.joints, self.limits.tightened(limits), dt)

    def track(self, joints: np.ndarray, pose: np.ndarray, iterations: int = 1) -> Solution:
        """Move the joints for one control period towards a pose, [7] of finite numbers.

        Each iteration solves a quadratic program: least squares of the pose error, subject to the limits of position
        and, over all iterations, velocity (S. Caron, Control basics for robotics, 2024; the library mink).
        """
        if self._solver is None:
            raise KinematicsError('set_limits has not been called, so there are no limits to keep')
        position, rotation, wxyz = self._base_matrix @ pose[:3] + self._base, np.empty(4), pose[[6, 3, 4, 5]]
        self._mujoco.mju_normalize4(wxyz)
        self._mujoco.mju_mulQuat(rotation, self._base_wxyz, wxyz)
        before = self._cost(*self._errors(joints, position, wxyz))
        found = self._solver.solve(joints, np.concatenate([rotation, position]), iterations)
        errors = self._errors(found, position, wxyz)
        reached = errors[0] <= POSITION_TOLERANCE and errors[1] <= ROTATION_TOLERANCE
        nearer = before - self._cost(*errors)
        if not reached and nearer < 0:  # never dither around what cannot be reached
            found, errors = np.array(joints), self._errors(joints, position, wxyz)
        return Solution(found, reached, not reached and nearer < PROGRESS, *errors)

    def _errors(self, joints: np.ndarray, position: np.ndarray, wxyz: np.ndarray) -> tuple[float, float]:
        """Distances in m and rad from a position in the world and an orientation in the base frame."""
        self._move(joints)
        turn = np.empty(3)
        self._mujoco.mju_subQuat(turn, wxyz, self._rotation())
        return math.dist(self._data.site_xpos[self._tool], position), math.hypot(*turn)

    @staticmethod
    def _cost(position_error: float, rotation_error: float) -> float:
        return math.hypot(position_error, ORIENTATION_COST * rotation_error)

    def _rotation(self) -> np.ndarray:
        """Return the quaternion w x y z of the tool in the base frame where it was moved to, w >= 0."""
        tool, turned = np.empty(4), np.empty(4)
        self._mujoco.mju_mat2Quat(tool, self._data.site_xmat[self._tool])
        self._mujoco.mju_mulQuat(turned, self._to_base, tool)
        return turned if turned[0] >= 0 else -turned

    def _move(self, joints: np.ndarray) -> None:
        self._data.qpos[self._order] = joints
        self._mujoco.mj_kinematics(self._model, self._data)


class _Solver:
    """mink's view of an arm: a task for the tool and the limits of the joints."""

    def __init__(
        self, model: 'mujoco.MjModel', order: np.ndarray, names: Sequence[str], limits: JointLimits, dt: float
    ) -> None:
        import mink

        self._mink, self._order = mink, order
        ids = [model.joint(name).id for name in names]
        model.jnt_range[ids, 0], model.jnt_range[ids, 1] = limits.lower, limits.upper
        model.jnt_limited[ids] = np.isfinite(limits.lower) & np.isfinite(limits.upper)
        self._lower, self._upper, self._dt = limits.lower, limits.upper, dt
        speeds = {name: speed for name, speed in zip(names, limits.velocity, strict=True) if np.isfinite(speed)}
        self._limits = [mink.ConfigurationLimit(model, gain=1.0)]
        if speeds:
            self._limits.append(mink.VelocityLimit(model, speeds))
        self._configuration = mink.Configuration(model)
        self._task = mink.FrameTask(TOOL, 'site', 1.0, ORIENTATION_COST, lm_damping=LM_DAMPING)

    def solve(self, joints: np.ndarray, target: np.ndarray, iterations: int) -> np.ndarray:
        """Return joints nearer to a pose in the world, [7]: quaternion w x y z, position."""
        mink, configuration, q = self._mink, self._configuration, np.empty(len(joints))
        q[self._order] = np.clip(joints, self._lower, self._upper)
        self._task.set_target(mink.SE3(target))
        dt = self._dt / iterations
        for _ in range(iterations):
            configuration.update(q)
            try:
                velocity = mink.solve_ik(configuration, [self._task], dt, 'daqp', damping=DAMPING, limits=self._limits)
            except mink.NoSolutionFound:
                break  # the joints stay, and the caller hears that nothing brings the tool nearer
            q = q + dt * velocity
        return np.clip(q[self._order], self._lower, self._upper)


class Kinematics:
    """The arms of a robot, and where their joints are in its joint vector.

    Attributes:
        arms: by side.
        indices: of each arm's joints in the joint vector, int64 [joints], by side.
    """

    def __init__(self, arms: dict[str, ArmKinematics], indices: dict[str, np.ndarray]) -> None:
        self.arms, self.indices = arms, indices

    @classmethod
    def from_file(cls, path: Path, chains: Sequence[Chain]) -> 'Kinematics':
        """Read a robot whose joint vector is that of the chains, one after the other; see `ArmKinematics`."""
        ends = np.cumsum([len(chain.joints) for chain in chains])
        indices = {c.side: np.arange(end - len(c.joints), end) for c, end in zip(chains, ends, strict=True)}
        return cls({chain.side: ArmKinematics(path, chain) for chain in chains}, indices)

    @classmethod
    def from_profile(cls, profile: RobotProfile) -> 'Kinematics':
        """Read the arms that have an end effector.

        Raises:
            KinematicsError: the profile names no kinematics file, or the file lacks what the profile names.
            ProfileError: there is no such file.
        """
        if profile.kinematics is None:
            raise KinematicsError(f'{profile.name} has no kinematics; name its URDF or MJCF in the profile')
        path, arms, indices = profile.kinematics.path, {}, {}
        for arm in profile.arms:
            if tool := arm.end_effector:
                names = tuple(profile.kinematics.joint_name(joint.name) for joint in arm.arm_joints)
                chain = Chain(arm.side, names, tool.tool_frame, tool.base_frame, tool.offset)
                arms[arm.side] = ArmKinematics(path, chain)
                indices[arm.side] = np.array([profile.joints.index(joint) for joint in arm.arm_joints])
        return cls(arms, indices)

    def limits(self, joints: int) -> JointLimits:
        """Return what the file says about a joint vector of this length, infinite where it says nothing."""
        unknown = np.full(joints, np.inf)
        limits = JointLimits(-unknown, unknown.copy(), unknown.copy(), unknown.copy())
        for side, arm in self.arms.items():
            for field, values in vars(arm.limits).items():
                getattr(limits, field)[self.indices[side]] = values
        return limits


def read_kinematics(profile: RobotProfile) -> Kinematics | None:
    """Read the robot's description where an arm has an end effector, else return None; errors as `from_profile`."""
    return Kinematics.from_profile(profile) if any(arm.end_effector for arm in profile.arms) else None


def joint_limits(profile: RobotProfile, kinematics: Kinematics | None) -> JointLimits:
    """Return what commands of a robot must keep, [joints]: the tighter of profile and file, with the profile's margins.

    Raises:
        LimitError: they leave a joint no room; the message names it.
    """
    limits = JointLimits(*(profile.limits(field) for field in ('lower', 'upper', 'velocity', 'acceleration')))
    if kinematics is not None:
        limits = limits.tightened(kinematics.limits(len(profile.joints)))
    limits = limits.inset(profile.limits('margin'))
    limits.require_room([joint.name for joint in profile.joints])
    return limits
