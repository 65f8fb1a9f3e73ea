"""CTC models: what the engine needs of one, and how to load one by name or from a folder."""

from __future__ import annotations

from stream_asr.acoustic.base import AcousticModel

__all__ = ["AcousticModel"]
