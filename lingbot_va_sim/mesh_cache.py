"""Simplified meshes, kept on disk: simplifying takes a second, and every start of a simulation needs the result."""

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import fast_simplification
import mujoco
import numpy as np

from lingbot_va_sim.errors import SimulationError

SMALLEST_FACES = 200  # a mesh this small stays as it is
WELD = 1e-6  # of the size of a mesh: vertices this near to each other are one


@dataclass(frozen=True)
class Mesh:
    """Vertices float32 [n, 3] in the file's unit, and triangles int32 [m, 3] of indices into them."""

    vertices: np.ndarray
    faces: np.ndarray


def cache_folder() -> Path:
    """Return the folder of the cache, by the XDG base directory specification; it may not exist yet."""
    home = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(home) if os.path.isabs(home) else Path.home() / '.cache') / 'lingbot_va' / 'meshes'


def simplified(path: Path, keep: float) -> Mesh:
    """Return the mesh of an STL or OBJ file with about `keep` (0 to 1) of its triangles.

    The result is taken from the cache if the same was asked for before: same content, share and version of the library.
    A cache that cannot be read or written, or that is damaged, only costs time.

    Raises:
        SimulationError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SimulationError(f'the mesh {path} cannot be read: {error.strerror}') from error
    recipe = f'{path.suffix} {keep:.6f} {SMALLEST_FACES} {WELD} fast-simplification {version("fast-simplification")}'
    entry = cache_folder() / f'{hashlib.sha256(recipe.encode() + content).hexdigest()}.npz'
    mesh = _read(entry)
    if mesh is None:
        mesh = _simplify(_load(path), keep)
        _write(entry, mesh)
    return mesh


def _load(path: Path) -> Mesh:
    """Read a mesh with MuJoCo's own readers."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name='mesh', file=str(path), inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    try:
        model = spec.compile()
    except ValueError as error:
        raise SimulationError(f'the mesh {path} cannot be read: {" ".join(str(error).split())}') from error
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[0])  # MuJoCo has moved it to its principal axes
    vertices = model.mesh_vert @ rotation.reshape(3, 3).T + model.mesh_pos[0]
    cell = WELD * np.ptp(vertices, axis=0).max()
    _, first, joined = np.unique(np.round(vertices / cell), axis=0, return_index=True, return_inverse=True)
    return Mesh(vertices[first].astype(np.float32), _proper(joined.ravel()[model.mesh_face]))


def _simplify(mesh: Mesh, keep: float) -> Mesh:
    if len(mesh.faces) <= SMALLEST_FACES:
        return mesh
    share = max(keep, SMALLEST_FACES / len(mesh.faces))
    vertices, faces = fast_simplification.simplify(mesh.vertices, mesh.faces, target_reduction=1 - share)
    return Mesh(np.asarray(vertices, dtype=np.float32), _proper(faces))


def _proper(faces: np.ndarray) -> np.ndarray:
    """Drop triangles that have become lines or points."""
    first, second, third = faces.T
    return faces[(first != second) & (second != third) & (third != first)].astype(np.int32)


def _read(entry: Path) -> Mesh | None:
    try:
        with np.load(entry) as stored:
            mesh = Mesh(stored['vertices'], stored['faces'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    vertices, faces = mesh.vertices, mesh.faces
    sound = vertices.dtype == np.float32 and vertices.ndim == 2 and vertices.shape[1:] == (3,)
    sound = sound and faces.dtype == np.int32 and faces.ndim == 2 and faces.shape[1:] == (3,) and faces.size > 0
    return mesh if sound and faces.min() >= 0 and faces.max() < len(vertices) else None


def _write(entry: Path, mesh: Mesh) -> None:
    """Write whole or not at all; where that is not possible, the next start takes as long as this one."""
    part = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=entry.parent, suffix='.part', delete=False) as file:
            part = Path(file.name)
            np.savez(file, vertices=mesh.vertices, faces=mesh.faces)
        part.replace(entry)
    except OSError:
        if part is not None:
            part.unlink(missing_ok=True)
