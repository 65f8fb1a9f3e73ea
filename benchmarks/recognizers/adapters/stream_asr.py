"""stream_asr: `Recognizer.stream`, fed in 20 ms blocks and polled after each block, and `Recognizer.transcribe`."""

from __future__ import annotations

from collections.abc import Iterable

from recognizers.worker import Emit, Samples, SimulatedMicrophone
from stream_asr import Event, Final, Partial, Recognizer

_BLOCK_SAMPLES = 320
"""Typical block size of sound cards."""


class StreamASR:
    """Adapter of this package."""

    packages = ("stream-asr", "torch", "transformers", "numpy")

    def __init__(self, threads: int, second_pass: str | None, *, whole_utterances: bool) -> None:
        self._whole_utterances = whole_utterances
        self._recognizer = Recognizer.from_pretrained(threads=threads, second_pass=second_pass, device="cpu")

    def transcribe(self, samples: Samples) -> str:
        return self._recognizer.transcribe(samples, whole_utterances=self._whole_utterances).text

    def transcribe_live(self, microphone: SimulatedMicrophone, emit: Emit) -> None:
        with self._recognizer.stream() as stream:
            while len(block := microphone.read(_BLOCK_SAMPLES)):
                stream.feed(block)
                _emit_events(stream.poll(), emit)
            stream.finish()
            _emit_events(stream, emit)


def _emit_events(events: Iterable[Event], emit: Emit) -> None:
    for event in events:
        if isinstance(event, Final):
            emit(final=event.text)
        elif isinstance(event, Partial):
            emit(partial=event.text)


def load(live: bool, threads: int, second_pass: str | None = "auto", whole_utterances: bool = False) -> StreamASR:
    assert not (live and whole_utterances)
    return StreamASR(threads, second_pass, whole_utterances=whole_utterances)
