"""Silero VAD: a small recurrent network that tells speech from other sounds.

Its package `silero-vad` brings the weights as an ONNX file. The package itself is never imported: that would set
PyTorch to one thread for the whole process. The network takes 32 ms at a time, always one frame of one stream,
so that its verdicts do not depend on how the samples arrived or who else is heard.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError

_FRAME_SAMPLES = 512
_CONTEXT_SAMPLES = 64
"""Of the frame before, which the network sees again."""

_STATE_SHAPE = (2, 1, 128)
_RATE = np.array(SAMPLE_RATE, dtype=np.int64)


class SileroModel:
    """The network, loaded once for any number of streams and threads.

    Raises:
        InputError: a package that it needs is not installed; the message names the extra.
    """

    def __init__(self) -> None:
        package = find_spec("silero_vad")
        try:
            import onnxruntime
        except ModuleNotFoundError:
            onnxruntime = None
        if package is None or package.origin is None or onnxruntime is None:
            raise InputError('silero needs packages that are not installed: pip install "stream-asr[silero]"')
        options = onnxruntime.SessionOptions()
        # One frame is too little work to be shared, and one thread always adds up in the same order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        weights = Path(package.origin).parent / "data" / "silero_vad.onnx"
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])

    def run(self, samples: FloatArray, state: FloatArray) -> tuple[float, FloatArray]:
        """Context and frame, float32 of shape (1, 576), and a state → probability of speech, next state."""
        outputs: Any = self._session.run(None, {"input": samples, "state": state, "sr": _RATE})
        return float(outputs[0][0, 0]), outputs[1]


class SileroProbability:
    """The probability of speech in each frame of one stream.

    The network's memory is all that is kept: it is as large after a week as after a frame.
    """

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._state: FloatArray = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self._heard: FloatArray = np.zeros((1, _CONTEXT_SAMPLES + _FRAME_SAMPLES), dtype=np.float32)

    def __call__(self, frame: bytes) -> float:
        self._heard[:, :_CONTEXT_SAMPLES] = self._heard[:, -_CONTEXT_SAMPLES:]
        self._heard[:, _CONTEXT_SAMPLES:] = np.frombuffer(frame, dtype="<i2") / np.float32(32768)
        probability, self._state = self._model.run(self._heard, self._state)
        return probability


class SileroDetector:
    """A `VoiceDetector`: voice begins at one probability and lasts while it does not fall below a lower one.

    Args:
        probability: of each frame; what it is called with is a frame of 16-bit PCM.
        threshold: where voice begins.
        hysteresis: how far below that it ends.
    """

    frame_samples = _FRAME_SAMPLES

    def __init__(self, probability: Callable[[bytes], float], threshold: float, hysteresis: float) -> None:
        self._probability = probability
        self._begins, self._lasts = threshold, threshold - hysteresis
        self._voiced = False

    def __call__(self, frame: bytes) -> bool:
        self._voiced = self._probability(frame) >= (self._lasts if self._voiced else self._begins)
        return self._voiced
