"""PocketSphinx with the American English model of its package, one thread.

Live as in its own examples: an endpointer divides the audio, a decoder hears it frame by frame, and its best guess so
far is the partial. Files are divided by the same endpointer, and each part is decoded knowing its end.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from pocketsphinx import Decoder, Endpointer

from recognizers.child import Microphone, Samples, Say, pcm16

_LAST = bytes(2)
"""A silent sample, as speech that is still going on is told of the end by an incomplete frame, and none by no frame."""


class Sphinx:
    packages = ("pocketsphinx", "numpy")

    def __init__(self) -> None:
        self._decoder = Decoder(loglevel="FATAL")

    def transcribe(self, samples: Samples) -> str:
        texts = []
        segmenter = Endpointer()
        whole_frames = len(samples) % (segmenter.frame_bytes // 2) == 0
        for part in segmenter.segment(BytesIO(pcm16(samples) + whole_frames * _LAST)):
            self._decoder.start_utt()
            self._decoder.process_raw(part.pcm, full_utt=True)
            self._decoder.end_utt()
            texts.append(self._guess())
        return " ".join(texts)

    def listen(self, microphone: Microphone, say: Say) -> None:
        endpointer = Endpointer()
        frame_samples = endpointer.frame_bytes // 2
        waiting = np.zeros(0, dtype=np.float32)
        shown = ""
        while len(block := microphone.read(frame_samples)):
            waiting = np.concatenate([waiting, block])
            for at in range(0, len(waiting) - frame_samples + 1, frame_samples):
                was_in_speech = endpointer.in_speech
                speech = endpointer.process(pcm16(waiting[at : at + frame_samples]))
                if speech is None:
                    continue
                if not was_in_speech:
                    self._decoder.start_utt()
                self._decoder.process_raw(speech)
                if not endpointer.in_speech:
                    self._decoder.end_utt()
                    say(final=self._guess())
                    shown = ""
            waiting = waiting[len(waiting) // frame_samples * frame_samples :]
            if endpointer.in_speech and (guess := self._guess()) != shown:
                say(partial=guess)
                shown = guess
        if endpointer.in_speech:
            if rest := endpointer.end_stream(pcm16(waiting) or _LAST):
                self._decoder.process_raw(rest)
            self._decoder.end_utt()
            say(final=self._guess())

    def _guess(self) -> str:
        guess = self._decoder.hyp()
        return guess.hypstr if guess else ""


def load(live: bool, threads: int) -> Sphinx:
    return Sphinx()
