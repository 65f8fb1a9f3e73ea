"""A real-time streaming speech recognizer.

from stream_asr import Recognizer

recognizer = Recognizer.from_pretrained()
print(recognizer.transcribe("talk.mp3").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_asr.config import (
        AcousticConfig,
        BeamConfig,
        EngineConfig,
        RecognizerConfig,
        SegmenterConfig,
        WindowConfig,
    )
    from stream_asr.errors import DeviceError, InputError, ModelError, StreamASRError
    from stream_asr.events import AudioDropped, Event, Final, Marked, Overload, Partial, SpeechStarted, Transcript, Word
    from stream_asr.recognizer import Recognizer
    from stream_asr.stream import Stream

__version__ = "0.1.0"

_EXPORTS = {
    "config": ("AcousticConfig", "BeamConfig", "EngineConfig", "RecognizerConfig", "SegmenterConfig", "WindowConfig"),
    "errors": ("DeviceError", "InputError", "ModelError", "StreamASRError"),
    "events": (
        "AudioDropped",
        "Event",
        "Final",
        "Marked",
        "Overload",
        "Partial",
        "SpeechStarted",
        "Transcript",
        "Word",
    ),
    "recognizer": ("Recognizer",),
    "stream": ("Stream",),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "AcousticConfig",
    "AudioDropped",
    "BeamConfig",
    "DeviceError",
    "EngineConfig",
    "Event",
    "Final",
    "InputError",
    "Marked",
    "ModelError",
    "Overload",
    "Partial",
    "Recognizer",
    "RecognizerConfig",
    "SegmenterConfig",
    "SpeechStarted",
    "Stream",
    "StreamASRError",
    "Transcript",
    "WindowConfig",
    "Word",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562), so that ``stream-asr --help`` does not wait for NumPy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
