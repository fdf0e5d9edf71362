"""Memory of the dead is freed, memory of the living is not."""

import fcntl
import os
from pathlib import Path

import pytest
from support import Graph

from lingbot_va_ros.shared_memory import FOLDER, remove_stale_segments


def make_segment(folder: Path, name: str, age_s: float = 60.0) -> Path:
    segment = folder / name
    segment.write_bytes(bytes(100))
    lock = folder / f'{name}_el'
    lock.touch()
    os.utime(lock, (lock.stat().st_atime, lock.stat().st_mtime - age_s))
    return segment


def test_only_old_segments_without_an_owner_are_removed(tmp_path: Path) -> None:
    stale = make_segment(tmp_path, 'fastrtps_0123456789abcdef')
    young = make_segment(tmp_path, 'fastrtps_1123456789abcdef', age_s=0.0)
    port = make_segment(tmp_path, 'fastrtps_port7412')
    other = tmp_path / 'something_el'
    other.touch()
    owned = make_segment(tmp_path, 'fastrtps_2123456789abcdef')
    with (tmp_path / 'fastrtps_2123456789abcdef_el').open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_stale_segments(tmp_path) == 1
    assert not stale.exists()
    assert not (tmp_path / f'{stale.name}_el').exists()
    assert all(path.exists() for path in (young, port, other, owned))


def test_fast_dds_locks_the_segments_of_a_living_process(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lingbot_va_ros.shared_memory.MIN_AGE_S', -1.0)
    mine = {path for path in FOLDER.glob('fastrtps_*') if _is_mapped_here(path)}
    assert mine, 'this process has no shared-memory segment'
    remove_stale_segments()
    assert all(path.exists() for path in mine)


def _is_mapped_here(path: Path) -> bool:
    return str(path) in Path('/proc/self/maps').read_text()
