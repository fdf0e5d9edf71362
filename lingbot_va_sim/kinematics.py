"""Where an arm's tool is, and which joint angles bring it somewhere: damped least squares on MuJoCo's Jacobians."""

from collections.abc import Sequence

import mujoco
import numpy as np

from lingbot_va_sim.errors import SimulationError

DAMPING = 0.02
ROTATION_WEIGHT_M = 0.15  # a radian counts like this many metres
LARGEST_STEP = 0.2  # rad; further the Jacobian means little
ITERATIONS = 200
TOLERANCE_M, TOLERANCE_RAD = 1e-4, 1e-3


class UnreachableError(SimulationError):
    """A pose that the arm does not get to."""


class ArmKinematics:
    """The kinematics of one arm, apart from the state of any simulation.

    Args:
        model: the compiled scene.
        joints: the names of the arm's hinges in the model, in the order of all joint vectors here.
        body: the body that carries the tool.
        tool: the tool point in the frame of that body, m [3].
        turned: the orientation of the tool in the frame of that body, [3, 3]; None: that of the body.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        joints: Sequence[str],
        body: str,
        tool: Sequence[float],
        turned: np.ndarray | None = None,
    ) -> None:
        self._turned = turned
        self._model, self._data = model, mujoco.MjData(model)
        self._body, self._tool = model.body(body).id, np.array(tool, dtype=np.float64)
        ids = [model.joint(name).id for name in joints]
        self._qpos, self._dofs = model.jnt_qposadr[ids], model.jnt_dofadr[ids]
        self.lower, self.upper = model.jnt_range[ids].T.copy()

    def pose(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return position [3] and rotation matrix [3, 3] of the tool in the world."""
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._body].reshape(3, 3)
        position = self._data.xpos[self._body] + rotation @ self._tool
        return position, rotation.copy() if self._turned is None else rotation @ self._turned

    def solve(self, position: np.ndarray, rotation: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Return joint angles that bring the tool to a pose; of several solutions one near `seed`.

        Raises:
            UnreachableError: the search does not get within 0.1 mm and 1 mrad.
        """
        angles = np.array(seed, dtype=np.float64)
        jacobian = np.empty((6, self._model.nv))
        for _ in range(ITERATIONS):
            at, orientation = self.pose(angles)
            turn = rotation_vector(rotation @ orientation.T)
            error = np.concatenate([position - at, turn])
            if np.linalg.norm(error[:3]) < TOLERANCE_M and np.linalg.norm(turn) < TOLERANCE_RAD:
                return angles
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jac(self._model, self._data, jacobian[:3], jacobian[3:], at, self._body)
            weighted = jacobian[:, self._dofs]
            weighted[3:] *= ROTATION_WEIGHT_M
            error[3:] *= ROTATION_WEIGHT_M
            damped = weighted @ weighted.T + DAMPING**2 * np.linalg.norm(error) * np.eye(6)
            step = weighted.T @ np.linalg.solve(damped, error)
            step *= min(1.0, LARGEST_STEP / max(np.abs(step).max(), 1e-12))
            angles = np.clip(angles + step, self.lower, self.upper)
        raise UnreachableError(
            f'the tool stays {np.linalg.norm(position - at) * 1e3:.1f} mm and {np.linalg.norm(turn):.3f} rad from '
            f'{np.round(position, 3).tolist()}'
        )


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return axis times angle [3] of a rotation matrix; of half a turn one of its two."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector
