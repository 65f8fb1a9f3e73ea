"""A stand-in for a system on which PortAudio does not load."""

from __future__ import annotations

import sys

import pytest


class _FailingFinder:
    """An import hook that raises an error when `sounddevice` is imported."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "sounddevice":
            raise self._error


def fail_import_of_sounddevice(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make ``import sounddevice`` raise ``error`` until the end of the test."""
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_FailingFinder(error), *sys.meta_path])
