"""Text for small language models."""

from __future__ import annotations

PARAGRAPHS = [line.split() for line in ("the cat sat on the mat", "the dog sat on the cat", "a cat and a dog sat")]
