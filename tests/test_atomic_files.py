from __future__ import annotations

from pathlib import Path

import pytest

from stream_asr.atomic_files import convert_os_errors, replace_file
from stream_asr.errors import InputError, StreamASRError
from tests.support.disk import limit_file_size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def only(path: Path) -> bytes:
    """What is in the file, beside which nothing is left."""
    assert list(path.parent.iterdir()) == [path]
    return path.read_bytes()


def test_the_new_file_comes_when_it_is_whole(path: Path) -> None:
    with replace_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert only(path) == b"new"


def test_the_old_file_stays_when_something_fails(path: Path) -> None:
    with pytest.raises(TypeError), replace_file(path) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert only(path) == b"old"


@pytest.mark.parametrize("size", [100, 100_000], ids=["found out at the end", "found out in the middle"])
def test_the_old_file_stays_when_there_is_no_room(path: Path, size: int) -> None:
    no_room = pytest.raises(StreamASRError, match=r"cannot write .*file: File too large")
    with limit_file_size(10), no_room, replace_file(path) as file, convert_os_errors(path):
        file.write(bytes(size))
    assert only(path) == b"old"


def test_a_place_that_cannot_be_written(path: Path) -> None:
    path.unlink()
    path.mkdir()
    for place in (path, path / "none" / "file"):
        with pytest.raises(InputError, match=f"cannot write {place}: "), replace_file(place):
            pass
    assert list(path.iterdir()) == []
