"""Moonshine Voice with the tiny model of its package.

Live, a stream is updated every half second and gets blocks of the size that the package's microphone class uses.
Speaker identification and the return of audio data are disabled, because no other recognizer does either. The library
chooses its number of threads.
"""

from __future__ import annotations

from moonshine_voice import ModelArch, Transcriber  # type: ignore[import-not-found]
from moonshine_voice.transcriber import (  # type: ignore[import-not-found]
    LineCompleted,
    LineTextChanged,
    TranscriptEvent,
)
from moonshine_voice.utils import get_model_path  # type: ignore[import-not-found]

from recognizers.worker import SAMPLE_RATE, Emit, Samples, SimulatedMicrophone

_BLOCK_SAMPLES = 1024
_UPDATE_INTERVAL_S = 0.5
_OPTIONS = {"identify_speakers": "false", "return_audio_data": "false"}


class Moonshine:
    """Adapter of Moonshine Voice."""

    packages = ("moonshine-voice", "numpy")

    def __init__(self) -> None:
        self._transcriber = Transcriber(get_model_path("tiny-en"), ModelArch.TINY, options=_OPTIONS)

    def transcribe(self, samples: Samples) -> str:
        transcript = self._transcriber.transcribe_without_streaming(samples.tolist(), SAMPLE_RATE)
        return " ".join(line.text for line in transcript.lines)

    def transcribe_live(self, microphone: SimulatedMicrophone, emit: Emit) -> None:
        def on_event(event: TranscriptEvent) -> None:
            if isinstance(event, LineCompleted):
                emit(final=event.line.text)
            elif isinstance(event, LineTextChanged) and not event.line.is_complete:
                emit(partial=event.line.text)

        with self._transcriber.create_stream(_UPDATE_INTERVAL_S) as stream:
            stream.add_listener(on_event)
            stream.start()
            while len(block := microphone.read(_BLOCK_SAMPLES)):
                stream.add_audio(block.tolist(), SAMPLE_RATE)
            stream.stop()


def load(live: bool, threads: int) -> Moonshine:
    return Moonshine()
