"""Coarser meshes for the cameras: rendering in software takes as long as the meshes have triangles."""

from pathlib import Path

import mujoco

from lingbot_va_sim.mesh_cache import simplified

HIDDEN_GROUP = 3  # geoms of groups 0 to 2 are rendered


def add_coarse_visuals(spec: mujoco.MjSpec, folder: Path, keep: float) -> None:
    """Render simplified meshes, with about `keep` (0 to 1) of the triangles, instead of those of the files in `folder`.

    The physics goes on with the original ones: a geom that can touch something becomes invisible and gets a coarse
    twin; one that cannot, and that gives its body no mass, takes the coarse mesh itself.
    """
    originals = {mesh.name: mesh for mesh in spec.meshes}
    for geom in list(spec.geoms):
        if not geom.meshname or geom.group >= HIDDEN_GROUP:
            continue
        coarse = f'{geom.meshname} visual'
        if spec.mesh(coarse) is None:
            _add_coarse_mesh(spec, coarse, originals[geom.meshname], folder, keep)
        weightless = geom.parent.explicitinertial or geom.parent.name == spec.worldbody.name
        if geom.contype == geom.conaffinity == 0 and weightless:
            geom.meshname = coarse
        else:
            _add_twin(geom, coarse)
    used = {geom.meshname for geom in spec.geoms}
    for name, mesh in originals.items():
        if name not in used:
            spec.delete(mesh)


def _add_coarse_mesh(spec: mujoco.MjSpec, name: str, original: mujoco.MjsMesh, folder: Path, keep: float) -> None:
    mesh = simplified(folder / original.file, keep)
    spec.add_mesh(
        name=name,
        uservert=mesh.vertices.ravel(),
        userface=mesh.faces.ravel(),
        scale=original.scale,
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,  # a coarse mesh need not be closed
    )


def _add_twin(geom: mujoco.MjsGeom, mesh: str) -> None:
    twin = geom.parent.add_geom(
        type=geom.type, meshname=mesh, pos=geom.pos, quat=geom.quat, rgba=geom.rgba, material=geom.material,
        group=geom.group, contype=0, conaffinity=0, mass=0.0,
    )  # fmt: skip
    twin.alt.type, twin.alt.euler = geom.alt.type, geom.alt.euler
    geom.group = HIDDEN_GROUP
