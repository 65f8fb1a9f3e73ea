"""The loop of a live session: audio from a source into a stream, events from the stream to a view and to sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.cli.interrupt import Interrupt
from stream_asr.cli.sinks import Sink, SinkGroup
from stream_asr.cli.views import View
from stream_asr.errors import StreamASRError
from stream_asr.events import Event, Final
from stream_asr.latency import Arrival
from stream_asr.stream import Stream

_MIN_LEVEL_DB, _MIN_POWER = -90.0, 1e-9


@dataclass(frozen=True, slots=True)
class LoopResult:
    """Outcome of a live session.

    Attributes:
        has_speech: whether any final has text.
        error: error of the source, or else the first error of a sink; None if there was no error.
    """

    has_speech: bool
    error: StreamASRError | None


def run_caption_loop(
    stream: Stream,
    blocks: Iterable[FloatArray],
    view: View,
    interrupt: Interrupt,
    *,
    wait_for_recognition: bool = False,
    sinks: Sequence[Sink] = (),
    on_arrival: Callable[[Arrival], None] | None = None,
) -> LoopResult:
    """Feed a stream until its source ends, fails or the user stops it; then show the remaining events.

    Args:
        stream: recognizes the audio.
        blocks: the source: float32 blocks of shape (samples,) or (samples, channels).
        view: shows the events.
        interrupt: true once the user wants to stop.
        wait_for_recognition: do not read ahead of the recognizer, for sources that are faster than real time.
        sinks: also get the audio and the events. The view shows a warning if a sink fails; the session continues.
        on_arrival: called with every event and its time of arrival.
    """
    has_speech = False
    source_error: StreamASRError | None = None
    sink_group = SinkGroup(sinks, view.warn)
    start_s = time.monotonic()

    def show(events: Iterable[Event]) -> None:
        nonlocal has_speech
        for event in events:
            if on_arrival is not None:
                on_arrival(Arrival(time.monotonic() - start_s, event))
            has_speech = has_speech or (isinstance(event, Final) and bool(event.text))
            view.show(event)
            sink_group.write_event(event)

    try:
        for block in blocks:
            if len(block):
                stream.feed(block)
                view.update_status(stream.received_s, _level_db(block), stream.lag_ms)
                sink_group.write_audio(block)
                if wait_for_recognition:
                    stream.drain()
            show(stream.poll())
            if interrupt:
                break
    except StreamASRError as error:
        # The audio that the source delivered before the error is still recognized.
        source_error = error
    stream.finish()
    show(stream)
    return LoopResult(has_speech, source_error or sink_group.error)


def _level_db(block: FloatArray) -> float:
    """Return the level of a block in dB relative to full scale."""
    power = float(np.square(block, dtype=np.float64).mean())
    return 10 * float(np.log10(power)) if power > _MIN_POWER else _MIN_LEVEL_DB
