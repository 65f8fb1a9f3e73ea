"""A disk with little room left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def files_end_at(most_bytes: int) -> Iterator[None]:
    """As on a disk that is nearly full: no file of this process gets any longer."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
