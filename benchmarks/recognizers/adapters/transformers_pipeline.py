"""Pipeline of Transformers; as a peer, with the bundled model of stream_asr in float32.

Files are processed in chunks of 10 s with strides of 4 and 2 s. Live, the pipeline gets the windows that Transformers'
``ffmpeg_microphone_live`` makes: they grow by half a second up to 5 s, and the last sixth of a full window is part of
the next window. The text of a full window is final; that of a growing window is the partial.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import pipeline
from transformers.pipelines.audio_utils import chunk_bytes_iter

from recognizers.worker import SAMPLE_RATE, Emit, Samples, SimulatedMicrophone
from stream_asr.acoustic.pretrained import Pretrained, load_pretrained

_CHUNK_S, _STRIDES_S = 10.0, (4.0, 2.0)
_LIVE_CHUNK_SAMPLES = 5 * SAMPLE_RATE
_LIVE_STRIDE_SAMPLES = _LIVE_CHUNK_SAMPLES // 6
_LIVE_STEP_SAMPLES = SAMPLE_RATE // 2
_SAMPLE_BYTES = 4


class TransformersPipeline:
    """Adapter of the pipeline "automatic-speech-recognition"."""

    packages = ("transformers", "torch", "numpy")

    def __init__(self, pretrained: Pretrained, device: torch.device) -> None:
        self._pipeline: Any = pipeline(
            "automatic-speech-recognition",
            model=pretrained.model.eval(),
            feature_extractor=pretrained.feature_extractor,
            tokenizer=pretrained.tokenizer,
            device=device,
        )

    def transcribe(
        self, samples: Samples, chunk_s: float = _CHUNK_S, strides_s: tuple[float, float] = _STRIDES_S
    ) -> str:
        audio = {"raw": samples, "sampling_rate": SAMPLE_RATE}
        return str(self._pipeline(audio, chunk_length_s=chunk_s, stride_length_s=strides_s)["text"])

    def transcribe_live(self, microphone: SimulatedMicrophone, emit: Emit) -> None:
        strides = (_LIVE_STRIDE_SAMPLES * _SAMPLE_BYTES, _LIVE_STRIDE_SAMPLES * _SAMPLE_BYTES)
        steps = _read_steps(microphone)
        for window in chunk_bytes_iter(steps, _LIVE_CHUNK_SAMPLES * _SAMPLE_BYTES, strides, stream=True):
            audio = {
                "raw": np.frombuffer(window["raw"], dtype=np.float32),
                "sampling_rate": SAMPLE_RATE,
                "stride": tuple(length // _SAMPLE_BYTES for length in window["stride"]),
            }
            text = self._pipeline(audio)["text"]
            if window["partial"]:
                emit(partial=text)
            else:
                emit(final=text)


def _read_steps(microphone: SimulatedMicrophone) -> Iterator[bytes]:
    while len(block := microphone.read(_LIVE_STEP_SAMPLES)):
        yield block.tobytes()


def load(live: bool, threads: int) -> TransformersPipeline:
    torch.set_num_threads(threads)
    return TransformersPipeline(load_pretrained(), torch.device("cpu"))
