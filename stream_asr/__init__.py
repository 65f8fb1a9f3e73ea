"""A real-time streaming speech recognizer: sound in, live captions out.

>>> from stream_asr import Recognizer
>>> recognizer = Recognizer.from_pretrained()
>>> print(recognizer.transcribe("talk.mp3").text)  # doctest: +SKIP
"""

from __future__ import annotations

from stream_asr.config import EngineConfig, RecognizerConfig, SegmenterConfig, WindowConfig
from stream_asr.errors import DeviceError, InputError, ModelError, StreamASRError
from stream_asr.events import AudioDropped, Event, Final, Overload, Partial, SpeechStarted, Word
from stream_asr.recognizer import Recognizer, Transcript
from stream_asr.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "AudioDropped",
    "DeviceError",
    "EngineConfig",
    "Event",
    "Final",
    "InputError",
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
