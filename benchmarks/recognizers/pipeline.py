"""Transformers' pipeline with a checkpoint of stream_asr's, as it was loaded; as a peer the embedded one, in float32.

Files go through it in chunks of 10 s with strides of 4 and 2 s. Live it gets what Transformers' own
``ffmpeg_microphone_live`` makes of a microphone: windows of 5 s that grow by half a second, the newest sixth of a full
one being heard again in the next. A full window's text is final; that of a growing one is the partial.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import pipeline
from transformers.pipelines.audio_utils import chunk_bytes_iter

from recognizers.child import SAMPLE_RATE, Microphone, Samples, Say
from stream_asr.acoustic.pretrained import Pretrained, load_pretrained

_CHUNK_S, _STRIDES_S = 10.0, (4.0, 2.0)
_LIVE_CHUNK_SAMPLES = 5 * SAMPLE_RATE
_LIVE_STRIDE_SAMPLES = _LIVE_CHUNK_SAMPLES // 6
_LIVE_STEP_SAMPLES = SAMPLE_RATE // 2
_SAMPLE_BYTES = 4


class Pipeline:
    packages = ("transformers", "torch", "numpy")

    def __init__(self, loaded: Pretrained, device: torch.device) -> None:
        self._recognize: Any = pipeline(
            "automatic-speech-recognition",
            model=loaded.model.eval(),
            feature_extractor=loaded.feature_extractor,
            tokenizer=loaded.tokenizer,
            device=device,
        )

    def transcribe(
        self, samples: Samples, chunk_s: float = _CHUNK_S, strides_s: tuple[float, float] = _STRIDES_S
    ) -> str:
        audio = {"raw": samples, "sampling_rate": SAMPLE_RATE}
        return str(self._recognize(audio, chunk_length_s=chunk_s, stride_length_s=strides_s)["text"])

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
    torch.set_num_threads(threads)
    return Pipeline(load_pretrained(), torch.device("cpu"))
