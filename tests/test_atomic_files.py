"""Atomic replacement of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_asr.atomic_files import convert_os_errors, replace_file
from stream_asr.errors import InputError, StreamASRError
from tests.support.disk import limit_file_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of an existing file."""
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def read_only_file(path: Path) -> bytes:
    """Return the content of the file, which must be the only file in its folder."""
    assert list(path.parent.iterdir()) == [path]
    return path.read_bytes()


def test_new_file_appears_when_it_is_complete(path: Path) -> None:
    with replace_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert read_only_file(path) == b"new"


def test_old_file_stays_after_an_error(path: Path) -> None:
    with pytest.raises(TypeError), replace_file(path) as file:
        file.write("no bytes")  # type: ignore[call-overload]
    assert read_only_file(path) == b"old"


@pytest.mark.parametrize("size", [100, 100_000], ids=["fails in flush", "fails in write"])
def test_old_file_stays_when_the_disk_is_full(path: Path, size: int) -> None:
    disk_full = pytest.raises(StreamASRError, match=r"cannot write .*file: File too large")
    with limit_file_size(10), disk_full, replace_file(path) as file, convert_os_errors(path):
        file.write(bytes(size))
    assert read_only_file(path) == b"old"


def test_unwritable_path_is_an_input_error(path: Path) -> None:
    path.unlink()
    path.mkdir()
    for target in (path, path / "none" / "file"):
        with pytest.raises(InputError, match=f"cannot write {target}: "), replace_file(target):
            pass
    assert list(path.iterdir()) == []
