"""A file written past the page cache holds what an ordinary one would."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingbot_va_ros import direct_file
from lingbot_va_ros.direct_file import BLOCK, CAPACITY, DirectFile

SIZES = st.one_of(st.integers(0, 3 * BLOCK), st.sampled_from([BLOCK, CAPACITY - 1, CAPACITY, CAPACITY + BLOCK + 1]))


@given(before=st.integers(0, 2 * BLOCK + 1), writes=st.lists(st.tuples(SIZES, st.booleans()), max_size=8))
def test_it_holds_what_was_there_and_what_was_written(tmp_path_factory, before, writes):
    path, number = tmp_path_factory.mktemp('direct') / 'file', iter(range(256))
    expected = bytes([next(number)]) * before
    path.write_bytes(expected)
    with DirectFile(path) as file:
        for size, flush in writes:
            part = bytes([next(number)]) * size
            expected += part
            assert file.write(part) == size
            assert file.tell() == len(expected)
            if flush:
                file.flush()
                assert path.read_bytes() == expected
    assert path.read_bytes() == expected
    path.unlink()


def test_without_direct_writes_they_are_ordinary_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def refuse(path: Path, flags: int) -> int:
        opened.append(flags)
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, 'Invalid argument')
        return real(path, flags)

    real, path = os.open, tmp_path / 'file'
    path.write_bytes(b'begin ')
    monkeypatch.setattr(direct_file.os, 'open', refuse)
    with DirectFile(path) as file:
        file.write(b'end')
    assert len(opened) == 2 and path.read_bytes() == b'begin end'


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = os.pwrite, tmp_path / 'file'
    path.touch()
    monkeypatch.setattr(direct_file.os, 'pwrite', lambda fd, data, offset: real(fd, data[:BLOCK], offset))
    data = os.urandom(5 * BLOCK + 7)
    with DirectFile(path) as file:
        file.write(data)
    assert path.read_bytes() == data


def test_a_full_disk_is_an_error_and_what_was_flushed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, 'No space left on device')

    path = tmp_path / 'file'
    path.touch()
    file = DirectFile(path)
    file.write(b'kept')
    file.flush()
    file.write(b'lost')
    monkeypatch.setattr(direct_file.os, 'pwrite', full)
    with pytest.raises(OSError, match='No space left'):
        file.close()
    assert path.read_bytes() == b'kept'
    with pytest.raises(ValueError, match='closed'):
        file.write(b'more')
