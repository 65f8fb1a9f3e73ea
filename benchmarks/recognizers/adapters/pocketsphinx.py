"""PocketSphinx with the American English model of its package, on one thread.

Live, as in its own examples: an endpointer segments the audio, a decoder processes it frame by frame, and the current
hypothesis is the partial. Files are segmented by the same endpointer, and each segment is decoded as a whole.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from pocketsphinx import Decoder, Endpointer, Segmenter  # type: ignore[import-not-found]

from recognizers.worker import Emit, Samples, SimulatedMicrophone, pcm16

_SILENT_SAMPLE = bytes(2)
"""The endpointer ends ongoing speech only at an incomplete frame, which may not be empty."""


class PocketSphinx:
    """Adapter of PocketSphinx."""

    packages = ("pocketsphinx", "numpy")

    def __init__(self) -> None:
        self._decoder = Decoder(loglevel="FATAL")

    def transcribe(self, samples: Samples) -> str:
        texts = []
        segmenter = Segmenter()
        has_whole_frames = len(samples) % (segmenter.frame_bytes // 2) == 0
        for segment in segmenter.segment(BytesIO(pcm16(samples) + has_whole_frames * _SILENT_SAMPLE)):
            self._decoder.start_utt()
            self._decoder.process_raw(segment.pcm, full_utt=True)
            self._decoder.end_utt()
            texts.append(self._hypothesis())
        return " ".join(texts)

    def transcribe_live(self, microphone: SimulatedMicrophone, emit: Emit) -> None:
        endpointer = Endpointer()
        frame_samples = endpointer.frame_bytes // 2
        pending = np.zeros(0, dtype=np.float32)
        shown = ""
        while len(block := microphone.read(frame_samples)):
            pending = np.concatenate([pending, block])
            for at in range(0, len(pending) - frame_samples + 1, frame_samples):
                was_in_speech = endpointer.in_speech
                speech = endpointer.process(pcm16(pending[at : at + frame_samples]))
                if speech is None:
                    continue
                if not was_in_speech:
                    self._decoder.start_utt()
                self._decoder.process_raw(speech)
                if not endpointer.in_speech:
                    self._decoder.end_utt()
                    emit(final=self._hypothesis())
                    shown = ""
            pending = pending[len(pending) // frame_samples * frame_samples :]
            if endpointer.in_speech and (hypothesis := self._hypothesis()) != shown:
                emit(partial=hypothesis)
                shown = hypothesis
        if endpointer.in_speech:
            if rest := endpointer.end_stream(pcm16(pending) or _SILENT_SAMPLE):
                self._decoder.process_raw(rest)
            self._decoder.end_utt()
            emit(final=self._hypothesis())

    def _hypothesis(self) -> str:
        hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""


def load(live: bool, threads: int) -> PocketSphinx:
    return PocketSphinx()
