"""Coarse meshes look like the original ones, render faster, and leave the physics alone."""

from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np
import pytest

from lingbot_va_sim.visual_meshes import HIDDEN_GROUP, add_coarse_visuals

ASSETS = Path(find_spec('gym_aloha').origin).parent / 'assets'
CELL_M = 0.002


def compiled(coarse: bool) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(ASSETS / 'bimanual_viperx_transfer_cube.xml'))
    if coarse:
        add_coarse_visuals(spec, ASSETS, CELL_M)
    return spec.compile()


@pytest.fixture(scope='module')
def models() -> tuple[mujoco.MjModel, mujoco.MjModel]:
    return compiled(coarse=False), compiled(coarse=True)


def faces(model: mujoco.MjModel) -> int:
    """Count the triangles that are rendered."""
    return sum(
        int(model.mesh_facenum[mesh])
        for mesh, group in zip(model.geom_dataid, model.geom_group, strict=True)
        if mesh >= 0 and group < HIDDEN_GROUP
    )


def corners(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    """Return the bounding box of a mesh geom in the world, [2, 3]."""
    mesh = model.geom_dataid[geom]
    first = model.mesh_vertadr[mesh]
    local = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
    world = local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]
    return np.stack([world.min(axis=0), world.max(axis=0)])


def test_far_fewer_triangles_are_rendered(models: tuple) -> None:
    original, coarse = models
    assert faces(coarse) < 0.5 * faces(original)


def test_every_visual_mesh_lies_over_its_original(models: tuple) -> None:
    _, model = models
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    hidden = np.flatnonzero(model.geom_group == HIDDEN_GROUP)
    assert len(hidden) == 23  # the table and 11 meshes of each arm
    for geom in hidden:
        name = model.mesh(model.geom_dataid[geom]).name
        body = model.geom_bodyid[geom]
        (visual,) = (
            other
            for other in np.flatnonzero(model.geom_bodyid == body)
            if model.geom_dataid[other] >= 0 and model.mesh(model.geom_dataid[other]).name == f'{name} visual'
        )
        assert corners(model, data, visual) == pytest.approx(corners(model, data, geom), abs=CELL_M)
        assert model.geom_contype[visual] == model.geom_conaffinity[visual] == 0


def test_the_physics_stays_the_same_to_the_bit(models: tuple) -> None:
    states = []
    for model in models:
        data = mujoco.MjData(model)
        mujoco.mj_resetDataKeyframe(model, data, 0)
        data.ctrl[[1, 9]] = 0.9  # both grippers press on the table
        mujoco.mj_step(model, data, 1000)
        assert data.ncon > 10
        states.append(data.qpos.copy())
    assert np.array_equal(*states)
