"""A real-time streaming speech recognizer: sound in, live captions out.

from stream_asr import Recognizer

recognizer = Recognizer.from_pretrained()
print(recognizer.transcribe("talk.mp3").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_asr.config import EngineConfig, RecognizerConfig, SegmenterConfig, WindowConfig
    from stream_asr.errors import DeviceError, InputError, ModelError, StreamASRError
    from stream_asr.events import AudioDropped, Event, Final, Marked, Overload, Partial, SpeechStarted, Transcript, Word
    from stream_asr.recognizer import Recognizer
    from stream_asr.stream import Stream

__version__ = "0.1.0"

_HOMES = {
    "config": ("EngineConfig", "RecognizerConfig", "SegmenterConfig", "WindowConfig"),
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
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AudioDropped",
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
    """Import on first use (PEP 562): ``stream-asr --help`` must not wait for numpy."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
