"""Coarser meshes for the cameras: rendering in software takes as long as the meshes have triangles."""

from pathlib import Path

import mujoco
import numpy as np

HIDDEN_GROUP = 3  # geoms of groups 0 to 2 are rendered
STL_HEADER_BYTES = 84
STL_TRIANGLE = np.dtype([('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('attribute', '<u2')])


def add_coarse_visuals(spec: mujoco.MjSpec, folder: Path, cell_m: float) -> None:
    """Render a coarse copy of every mesh that is loaded from a binary STL file in `folder`.

    The physics goes on with the original ones, which only become invisible. `cell_m` is the size of detail that is
    lost.
    """
    for mesh in list(spec.meshes):
        vertices, faces = _cluster(_read_stl(folder / mesh.file) * mesh.scale, cell_m)
        spec.add_mesh(
            name=f'{mesh.name} visual',
            uservert=vertices.ravel(),
            userface=faces.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,  # a coarse mesh need not be closed
        )
    for geom in list(spec.geoms):
        if geom.meshname:
            visual = geom.parent.add_geom(
                type=geom.type, meshname=f'{geom.meshname} visual', pos=geom.pos, quat=geom.quat, rgba=geom.rgba,
                group=geom.group, contype=0, conaffinity=0,
            )  # fmt: skip
            visual.alt.type, visual.alt.euler = geom.alt.type, geom.alt.euler
            geom.group = HIDDEN_GROUP


def _read_stl(path: Path) -> np.ndarray:
    """Return the corners of the triangles, [triangles, 3, 3], in the file's unit."""
    return np.fromfile(path, STL_TRIANGLE, offset=STL_HEADER_BYTES)['corners']


def _cluster(corners: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Join all vertices within a cell of a grid; return vertices [n, 3] and the triangles that remain [m, 3]."""
    points = corners.reshape(-1, 3)
    _, cells = np.unique(np.floor(points / cell), axis=0, return_inverse=True)
    cells = cells.ravel()
    sums = np.stack([np.bincount(cells, weights=points[:, axis]) for axis in range(3)], axis=1)
    faces = cells.reshape(-1, 3)
    first, second, third = faces.T
    faces = faces[(first != second) & (second != third) & (third != first)]
    return sums / np.bincount(cells)[:, None], np.unique(faces, axis=0).astype(np.int32)
