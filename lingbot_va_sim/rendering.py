"""Offscreen cameras of a MuJoCo scene and their intrinsics."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import radians, tan
from types import TracebackType

import mujoco
import numpy as np

from lingbot_va_core.robot import Camera
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.gl import create_context

MAX_GEOMS = 1000


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera without distortion: focal lengths and principal point in pixels, pixel centres at integers."""

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def from_fovy(cls, fovy_deg: float, width: int, height: int) -> 'Intrinsics':
        """Return the intrinsics of square pixels under a vertical field of view."""
        focal = height / (2 * tan(radians(fovy_deg) / 2))
        return cls(focal, focal, (width - 1) / 2, (height - 1) / 2)


@dataclass(frozen=True)
class Snapshot:
    """A state to render: simulation time and generalised positions [nq]."""

    time_ns: int
    qpos: np.ndarray


class CameraRig:
    """Renders named cameras, each at its own size. Create, use and close it in one thread: OpenGL is bound to it."""

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[Camera]) -> None:
        """Create the OpenGL context and send the scene's meshes there.

        Raises:
            RenderError: there is no OpenGL context to be had.
        """
        self._model = model
        self._data = mujoco.MjData(model)
        self._shown: Snapshot | None = None
        self._cameras = {camera.name: camera for camera in cameras}
        self._views = {camera.name: _fixed_camera(model, camera.name) for camera in cameras}
        self._bottom_up = {camera.name: np.empty((camera.height, camera.width, 3), np.uint8) for camera in cameras}
        self._options = mujoco.MjvOption()
        self._scene = mujoco.MjvScene(model, MAX_GEOMS)
        for slow in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[slow] = False
        self._gl = create_context(model.vis.global_.offwidth, model.vis.global_.offheight)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def intrinsics(self, name: str) -> Intrinsics:
        """Return the intrinsics of a camera at its image size."""
        camera = self._camera(name)
        return Intrinsics.from_fovy(float(self._model.camera(name).fovy[0]), camera.width, camera.height)

    def render(self, name: str, snapshot: Snapshot, out: np.ndarray | None = None) -> np.ndarray:
        """Render a camera, into `out` if given; RGB, uint8 [height, width, 3]."""
        camera = self._camera(name)
        if snapshot is not self._shown:
            self._data.qpos[:] = snapshot.qpos
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
            self._shown = snapshot
        area = mujoco.MjrRect(0, 0, camera.width, camera.height)
        bottom_up = self._bottom_up[name]
        mujoco.mjv_updateScene(
            self._model, self._data, self._options, None, self._views[name], mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        self._gl.make_current()
        mujoco.mjr_render(area, self._scene, self._context)
        mujoco.mjr_readPixels(bottom_up, None, area, self._context)
        if out is None:
            return bottom_up[::-1].copy()
        out[:] = bottom_up[::-1]
        return out

    def close(self) -> None:
        """Free the OpenGL context; the rig cannot render any more."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> 'CameraRig':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            raise SimulationError(f"camera '{name}' is unknown; choose one of {', '.join(self._cameras)}")
        return self._cameras[name]


def _fixed_camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = model.camera(name).id
    return camera
