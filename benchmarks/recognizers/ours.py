"""stream_asr: `Recognizer.stream`, fed 20 ms at a time and asked for events after each, and `Recognizer.transcribe`."""

from __future__ import annotations

from collections.abc import Iterable

from recognizers.child import Microphone, Samples, Say
from stream_asr import Event, Final, Partial, Recognizer

_BLOCK_SAMPLES = 320
"""What a sound card delivers at a time."""


class Ours:
    packages = ("stream-asr", "torch", "transformers", "numpy")

    def __init__(self, threads: int, lm: str | None, *, whole_utterances: bool) -> None:
        self._whole_utterances = whole_utterances
        self._recognizer = Recognizer.from_pretrained(threads=threads, lm=lm, device="cpu")

    def transcribe(self, samples: Samples) -> str:
        return self._recognizer.transcribe(samples, whole_utterances=self._whole_utterances).text

    def listen(self, microphone: Microphone, say: Say) -> None:
        with self._recognizer.stream() as stream:
            while len(block := microphone.read(_BLOCK_SAMPLES)):
                stream.feed(block)
                _show(stream.poll(), say)
            stream.finish()
            _show(stream, say)


def _show(events: Iterable[Event], say: Say) -> None:
    for event in events:
        if isinstance(event, Final):
            say(final=event.text)
        elif isinstance(event, Partial):
            say(partial=event.text)


def load(live: bool, threads: int, lm: str | None, whole_utterances: bool = False) -> Ours:
    assert not (live and whole_utterances)
    return Ours(threads, lm, whole_utterances=whole_utterances)
