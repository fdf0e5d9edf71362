"""Coarse meshes look like the original ones, render faster, and leave the physics alone."""

from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np
import pytest

from lingbot_va_core.resources import find_resource
from lingbot_va_sim.visual_meshes import HIDDEN_GROUP, add_coarse_visuals

ASSETS = Path(find_spec('gym_aloha').origin).parent / 'assets'
KEEP = 0.5
DETAIL_M = 0.006


def compiled(coarse: bool) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(ASSETS / 'bimanual_viperx_transfer_cube.xml'))
    if coarse:
        add_coarse_visuals(spec, ASSETS, KEEP)
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
    assert faces(coarse) < 0.6 * faces(original)


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
        assert corners(model, data, visual) == pytest.approx(corners(model, data, geom), abs=DETAIL_M)
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


@pytest.fixture(scope='module')
def cells() -> tuple[mujoco.MjModel, mujoco.MjModel]:
    """The cell of OpenArm, whose visual geoms touch nothing, with the original and with coarse meshes."""
    path = find_resource('package://openarm_mujoco/v2/cell/cell.xml', None)
    models = []
    for coarse in (False, True):
        spec = mujoco.MjSpec.from_file(str(path))
        if coarse:
            add_coarse_visuals(spec, path.parents[1] / 'assets', 0.12)
        models.append(spec.compile())
    return tuple(models)


def test_geoms_that_touch_nothing_are_replaced(cells: tuple) -> None:
    original, coarse = cells
    assert faces(coarse) < 0.15 * faces(original)
    assert coarse.ngeom == original.ngeom and coarse.nmesh == original.nmesh  # nothing is kept twice
    states = [mujoco.MjData(model) for model in cells]
    for model, data in zip(cells, states, strict=True):
        mujoco.mj_forward(model, data)
    for geom in np.flatnonzero(original.geom_type == mujoco.mjtGeom.mjGEOM_MESH):
        expected = corners(original, states[0], geom)
        assert corners(coarse, states[1], geom) == pytest.approx(expected, abs=0.01), original.geom(geom).name


def test_the_physics_of_the_cell_stays_the_same_to_the_bit(cells: tuple) -> None:
    states = []
    for model in cells:
        data = mujoco.MjData(model)
        data.ctrl[model.actuator('right_joint1_ctrl').id] = -1.0
        mujoco.mj_step(model, data, 500)
        states.append(data.qpos.copy())
    assert np.array_equal(*states)
