"""Moonshine Voice with the tiny model of its package: a stream that is updated every half second, and files at once.

The stream gets blocks as long as those of the package's own microphone class. Finding out who speaks and giving the
audio back are switched off: neither is asked of the others. The library chooses its number of threads itself.
"""

from __future__ import annotations

from moonshine_voice import ModelArch, Transcriber
from moonshine_voice.transcriber import LineCompleted, LineTextChanged, TranscriptEvent
from moonshine_voice.utils import get_model_path

from recognizers.child import SAMPLE_RATE, Microphone, Samples, Say

_BLOCK_SAMPLES = 1024
_UPDATE_INTERVAL_S = 0.5
_OPTIONS = {"identify_speakers": "false", "return_audio_data": "false"}


class Moonshine:
    packages = ("moonshine-voice", "numpy")

    def __init__(self) -> None:
        self._transcriber = Transcriber(get_model_path("tiny-en"), ModelArch.TINY, options=_OPTIONS)

    def transcribe(self, samples: Samples) -> str:
        transcript = self._transcriber.transcribe_without_streaming(samples.tolist(), SAMPLE_RATE)
        return " ".join(line.text for line in transcript.lines)

    def listen(self, microphone: Microphone, say: Say) -> None:
        def show(event: TranscriptEvent) -> None:
            if isinstance(event, LineCompleted):
                say(final=event.line.text)
            elif isinstance(event, LineTextChanged) and not event.line.is_complete:
                say(partial=event.line.text)

        with self._transcriber.create_stream(_UPDATE_INTERVAL_S) as stream:
            stream.add_listener(show)
            stream.start()
            while len(block := microphone.read(_BLOCK_SAMPLES)):
                stream.add_audio(block.tolist(), SAMPLE_RATE)
            stream.stop()


def load(live: bool, threads: int) -> Moonshine:
    return Moonshine()
