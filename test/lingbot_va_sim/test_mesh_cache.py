"""Simplified meshes: what the cache gives back is what was computed, and nothing but time depends on it."""

from pathlib import Path

import fast_simplification
import mujoco
import numpy as np
import pytest

from lingbot_va_core.resources import find_resource
from lingbot_va_sim import mesh_cache
from lingbot_va_sim.errors import SimulationError
from lingbot_va_sim.mesh_cache import cache_folder, simplified

LINK = find_resource('package://openarm_mujoco/v2/assets/visual/arm/link1_00.obj', None)
SMALL = find_resource('package://openarm_mujoco/v2/assets/collision/link5_part_00.stl', None)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'lingbot_va' / 'meshes'


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of triangles of every mesh that is really simplified."""
    counts: list[int] = []
    real = fast_simplification.simplify

    def counted(vertices: np.ndarray, faces: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray]:
        counts.append(len(faces))
        return real(vertices, faces, **options)

    monkeypatch.setattr(mesh_cache.fast_simplification, 'simplify', counted)
    return counts


def test_the_second_time_gives_the_same_to_the_bit_without_the_work(cache: Path, runs: list[int]) -> None:
    first, second = simplified(LINK, 0.1), simplified(LINK, 0.1)
    assert len(runs) == 1
    np.testing.assert_array_equal(first.vertices, second.vertices)
    np.testing.assert_array_equal(first.faces, second.faces)
    assert len(first.faces) == pytest.approx(0.1 * runs[0], rel=0.05)
    assert [path.suffix for path in cache.iterdir()] == ['.npz']


def test_another_share_or_content_is_another_entry(cache: Path, runs: list[int], tmp_path: Path) -> None:
    simplified(LINK, 0.1)
    simplified(LINK, 0.2)
    copy = tmp_path / 'copy.obj'
    copy.write_bytes(LINK.read_bytes())
    simplified(copy, 0.1)  # the same content under another name
    assert (len(runs), len(list(cache.iterdir()))) == (2, 2)
    copy.write_bytes(LINK.read_bytes() + b'# changed\n')
    simplified(copy, 0.1)
    assert (len(runs), len(list(cache.iterdir()))) == (3, 3)


@pytest.mark.parametrize('damage', [b'', b'no archive', None])
def test_a_damaged_entry_is_computed_anew(cache: Path, runs: list[int], damage: bytes | None) -> None:
    expected = simplified(LINK, 0.1)
    (entry,) = cache.iterdir()
    if damage is None:  # an archive whose triangles point beyond the vertices
        np.savez(entry, vertices=expected.vertices[:5], faces=expected.faces)
    else:
        entry.write_bytes(damage)
    np.testing.assert_array_equal(simplified(LINK, 0.1).faces, expected.faces)
    assert len(runs) == 2
    simplified(LINK, 0.1)
    assert len(runs) == 2


def test_without_a_place_to_write_it_only_takes_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert len(simplified(SMALL, 0.5).faces) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file']


def test_a_small_mesh_is_welded_and_else_left_alone() -> None:
    mesh = simplified(SMALL, 0.01)
    spec = mujoco.MjSpec()
    spec.add_mesh(name='m', file=str(SMALL))
    model = spec.compile()
    assert len(mesh.faces) == model.nmeshface
    sides = np.linalg.norm(np.diff(mesh.vertices[mesh.faces], axis=1), axis=2)
    expected = np.linalg.norm(np.diff(model.mesh_vert[model.mesh_face], axis=1), axis=2)
    np.testing.assert_allclose(np.sort(sides, axis=0), np.sort(expected, axis=0), atol=1e-6)


def test_the_folder_follows_the_base_directory_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')  # which the specification tells to ignore
    assert cache_folder() == Path.home() / '.cache' / 'lingbot_va' / 'meshes'


def test_a_file_that_is_no_mesh_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'broken.obj'
    with pytest.raises(SimulationError, match=r'broken.obj cannot be read: No such file'):
        simplified(path, 0.1)
    path.write_text('v 1 2')
    with pytest.raises(SimulationError, match=r'broken.obj cannot be read: ') as caught:
        simplified(path, 0.1)
    assert '\n' not in str(caught.value)
