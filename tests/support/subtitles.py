"""Cases of subtitles that the Python code and the page have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_subtitle_cases() -> list[dict[str, Any]]:
    """Return cases with ``name``, ``finals`` in the wire format, and the lines of the ``srt`` file."""
    path = Path(__file__).with_name("subtitle_cases.json")
    cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return cases
