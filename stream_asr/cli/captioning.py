"""The loop between a source of audio, a stream and a view."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import methodcaller

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.cli.interrupt import Interrupt
from stream_asr.cli.recording import Recording
from stream_asr.cli.views import View
from stream_asr.errors import StreamASRError
from stream_asr.events import Event, Final
from stream_asr.latency import Arrival
from stream_asr.stream import Stream

_SILENCE_DB, _SILENCE_POWER = -90.0, 1e-9


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a stream: whether any word was heard, and what failed, if anything did, the source first."""

    spoken: bool
    failure: StreamASRError | None


def caption(
    stream: Stream,
    blocks: Iterable[FloatArray],
    view: View,
    interrupt: Interrupt,
    *,
    wait_for_room: bool = False,
    recordings: Sequence[Recording] = (),
    on_arrival: Callable[[Arrival], None] | None = None,
) -> Run:
    """Feed a stream until its source ends, fails or is interrupted; then show what is left of its events.

    Args:
        wait_for_room: for sources that are faster than real time.
        recordings: are given the sound and the captions as well. One that fails is told of and left alone:
            who reads the captions still needs them.
        on_arrival: is given every event with its time of arrival.
    """
    spoken = False
    failure: StreamASRError | None = None
    unsaved: StreamASRError | None = None
    saving = list(recordings)
    start = time.monotonic()

    def save(write: Callable[[Recording], None]) -> None:
        nonlocal unsaved
        for recording in tuple(saving):
            try:
                write(recording)
            except StreamASRError as error:
                view.warn(str(error))
                saving.remove(recording)
                unsaved = unsaved or error

    def show(events: Iterable[Event]) -> None:
        nonlocal spoken
        for event in events:
            if on_arrival is not None:
                on_arrival(Arrival(time.monotonic() - start, event))
            spoken = spoken or (isinstance(event, Final) and bool(event.text))
            view.show(event)
            save(methodcaller("note", event))

    try:
        for block in blocks:
            if len(block):
                stream.feed(block)
                view.tick(stream.received_s, _level_db(block), stream.lag_ms)
                save(methodcaller("hear", block))
                if wait_for_room:
                    stream.drain()
            show(stream.poll())
            if interrupt:
                break
    except StreamASRError as error:
        # The source is gone; what it gave until then is still recognised.
        failure = error
    stream.finish()
    show(stream)
    return Run(spoken, failure or unsaved)


def _level_db(block: FloatArray) -> float:
    """Loudness of a block in dB below full scale."""
    power = float(np.square(block, dtype=np.float64).mean())
    return 10 * float(np.log10(power)) if power > _SILENCE_POWER else _SILENCE_DB
