"""A live stream as a test feeds it."""

from __future__ import annotations

import time
from typing import Any

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import Event


def streamed(
    recognizer: Recognizer, audio: FloatArray, sizes: list[int], pause_s: float = 0.0, **options: Any
) -> list[Event]:
    """All events of a stream with these options that gets the audio in blocks of these sizes, over and over."""
    events: list[Event] = []
    with recognizer.stream(**options) as stream:
        at, turn = 0, 0
        while at < len(audio):
            size = sizes[turn % len(sizes)]
            stream.feed(audio[at : at + size])
            time.sleep(pause_s)
            stream.drain()
            events += stream.poll()
            at, turn = at + size, turn + 1
        stream.finish()
        return events + list(stream)
