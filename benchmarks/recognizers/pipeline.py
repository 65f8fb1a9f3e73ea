"""Transformers' pipeline with the checkpoint that is embedded in stream_asr, in float32, greedy.

Files go through it in chunks of 10 s with strides of 4 and 2 s. Live it gets what Transformers' own
``ffmpeg_microphone_live`` makes of a microphone: windows of 5 s that grow by half a second, the newest sixth of a full
one being heard again in the next. A full window's text is final; that of a growing one is the partial.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from transformers import pipeline
from transformers.pipelines.audio_utils import chunk_bytes_iter

from recognizers.child import SAMPLE_RATE, Microphone, Samples, Say
from stream_asr.acoustic import moonshine_ctc
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER

_CHUNK_S, _STRIDES_S = 10, (4, 2)
_LIVE_CHUNK_SAMPLES = 5 * SAMPLE_RATE
_LIVE_STRIDE_SAMPLES = _LIVE_CHUNK_SAMPLES // 6
_LIVE_STEP_SAMPLES = SAMPLE_RATE // 2
_SAMPLE_BYTES = 4


class Pipeline:
    packages = ("transformers", "torch", "numpy")

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        moonshine_ctc.register()
        self._recognize = pipeline(
            "automatic-speech-recognition",
            model=str(EMBEDDED_FOLDER),
            device="cpu",
            dtype=torch.float32,
        )

    def transcribe(self, samples: Samples) -> str:
        audio = {"raw": samples, "sampling_rate": SAMPLE_RATE}
        text: str = self._recognize(audio, chunk_length_s=_CHUNK_S, stride_length_s=_STRIDES_S)["text"]
        return text

    def listen(self, microphone: Microphone, say: Say) -> None:
        strides = (_LIVE_STRIDE_SAMPLES * _SAMPLE_BYTES, _LIVE_STRIDE_SAMPLES * _SAMPLE_BYTES)
        for window in chunk_bytes_iter(_steps(microphone), _LIVE_CHUNK_SAMPLES * _SAMPLE_BYTES, strides, stream=True):
            audio = {
                "raw": np.frombuffer(window["raw"], dtype=np.float32),
                "sampling_rate": SAMPLE_RATE,
                "stride": tuple(length // _SAMPLE_BYTES for length in window["stride"]),
            }
            text = self._recognize(audio)["text"]
            if window["partial"]:
                say(partial=text)
            else:
                say(final=text)


def _steps(microphone: Microphone) -> Iterator[bytes]:
    while len(block := microphone.read(_LIVE_STEP_SAMPLES)):
        yield block.tobytes()


def load(live: bool, threads: int) -> Pipeline:
    return Pipeline(threads)
