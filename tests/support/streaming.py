"""Feed audio to streams, and run engines without a thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.events import Event, Final
from stream_asr.streaming.engine import Engine
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline


def collect_events(
    recognizer: Recognizer, audio: FloatArray, block_sizes: list[int], pause_s: float = 0.0, **options: Any
) -> list[Event]:
    """Feed audio to a new stream and return all events.

    Args:
        recognizer: opens the stream.
        audio: samples at 16 kHz.
        block_sizes: lengths of the blocks in samples, repeated in this order until the audio ends.
        pause_s: pause after each block.
        options: arguments of `Recognizer.stream`.
    """
    events: list[Event] = []
    with recognizer.stream(**options) as stream:
        start, turn = 0, 0
        while start < len(audio):
            size = block_sizes[turn % len(block_sizes)]
            stream.feed(audio[start : start + size])
            time.sleep(pause_s)
            stream.drain()
            events += stream.poll()
            start, turn = start + size, turn + 1
        stream.finish()
        return events + list(stream)


def add_stream(
    engine: Engine, pipeline: Pipeline, audio: FloatArray | None = None, *, max_unread: int = 1000, ended: bool = False
) -> Mailbox:
    """Add a stream to an engine, with audio in its buffer."""
    mailbox = Mailbox(pipeline, max_unread)
    if audio is not None:
        pipeline.buffer.write(audio)
    if ended:
        pipeline.end_of_audio()
    engine.add(mailbox)
    return mailbox


def final_texts(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def run_until_idle(engine: Engine) -> None:
    while engine.step():
        pass
