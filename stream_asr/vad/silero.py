"""Silero VAD: a small recurrent network that separates speech from other sounds.

The package `silero-vad` provides the weights as an ONNX file. The package itself is never imported, because that would
set PyTorch to one thread for the whole process. The network always runs on one 32 ms frame of one stream, so that its
results depend neither on block sizes nor on other streams.

Source: Silero VAD, https://github.com/snakers4/silero-vad.
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
"""Samples of the previous frame that the network gets again."""

_STATE_SHAPE = (2, 1, 128)
_RATE = np.array(SAMPLE_RATE, dtype=np.int64)


class SileroModel:
    """The network, loaded once for any number of streams and threads.

    Raises:
        InputError: the package `silero-vad` is not installed; the message names the extra.
    """

    def __init__(self) -> None:
        package = find_spec("silero_vad")
        if package is None or package.origin is None:
            raise InputError('silero needs a package that is not installed: pip install "stream-asr[silero]"')
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # A frame is too little work to share, and with one thread sums are always added in the same order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        weights = Path(package.origin).parent / "data" / "silero_vad.onnx"
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])

    def run(self, samples: FloatArray, state: FloatArray) -> tuple[float, FloatArray]:
        """Run the network on one frame.

        Args:
            samples: context and frame, float32, shape (1, 576).
            state: the state after the previous frame, float32, shape (2, 1, 128).

        Returns:
            The probability of speech, and the next state.
        """
        outputs: Any = self._session.run(None, {"input": samples, "state": state, "sr": _RATE})
        return float(outputs[0][0, 0]), outputs[1]


class SileroProbability:
    """Returns the probability of speech in each frame of one stream.

    Args:
        model: the network, shared by all streams.
    """

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._state: FloatArray = np.zeros(_STATE_SHAPE, dtype=np.float32)
        self._samples: FloatArray = np.zeros((1, _CONTEXT_SAMPLES + _FRAME_SAMPLES), dtype=np.float32)

    def __call__(self, frame: bytes) -> float:
        self._samples[:, :_CONTEXT_SAMPLES] = self._samples[:, -_CONTEXT_SAMPLES:]
        self._samples[:, _CONTEXT_SAMPLES:] = np.frombuffer(frame, dtype="<i2") / np.float32(32768)
        probability, self._state = self._model.run(self._samples, self._state)
        return probability


class SileroDetector:
    """A `VoiceDetector` with hysteresis.

    Args:
        probability: returns the probability of speech in the next frame of 16-bit PCM.
        threshold: probability at which voice starts.
        hysteresis: how far below ``threshold`` the probability must fall before voice ends.
    """

    frame_samples = _FRAME_SAMPLES

    def __init__(self, probability: Callable[[bytes], float], threshold: float, hysteresis: float) -> None:
        self._probability = probability
        self._start_threshold, self._end_threshold = threshold, threshold - hysteresis
        self._voiced = False

    def __call__(self, frame: bytes) -> bool:
        threshold = self._end_threshold if self._voiced else self._start_threshold
        self._voiced = self._probability(frame) >= threshold
        return self._voiced
