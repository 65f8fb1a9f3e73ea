"""Moonshine's encoder and its heads in ONNX Runtime, which is faster on a processor than PyTorch: it has the products
laid out for as few frames as a stream has at a time, and no interpreter between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_asr.acoustic.int8 import has_instructions
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.streaming import Level
from stream_asr.array_types import FloatArray

_WARM_UP_SAMPLES = 16_000


def missing_packages() -> list[str]:
    """Those of the extra ``onnx`` that are not installed."""
    return [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]


@dataclass(frozen=True, slots=True)
class OnnxState:
    """Of one stream; see `stream_asr.acoustic.moonshine.streaming.EncoderState`.

    Attributes:
        past: keys and values of each layer in turn, float32, shape (heads, frames, width of a head).
    """

    reach: int
    past: tuple[FloatArray, ...]
    steps: int = 0
    level: Level = field(default_factory=Level)


class OnnxEncoder:
    """See `stream_asr.acoustic.base.StreamingEncoder`. Any number of threads may use it at once.

    Args:
        network: has what `MoonshineForCTC` has; its weights are copied.
        int8: use eight bits where most of the time goes.

    Raises:
        Exception: ONNX Runtime is not installed, too old, or does not run the network; of many kinds.
    """

    backend = "onnxruntime"

    def __init__(self, network: Any, *, int8: bool) -> None:
        import onnxruntime

        from stream_asr.acoustic.moonshine.onnx_export import outputs_of, past_of, stream_graph

        encoder: Encoder = network.encoder
        self._sizes, self._stride, self._conv = encoder.sizes, encoder.stride, encoder.conv1
        self._joined = encoder.joined_after is not None
        self._past, self._outputs = past_of(encoder.sizes.layers), outputs_of(encoder.sizes.layers)
        options = onnxruntime.SessionOptions()
        # Windows run side by side, each on a core of its own.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = stream_graph(network, int8=int8, signed=has_instructions())
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        # The first run allocates most; and what does not work should be known now.
        self.forward(np.zeros(_WARM_UP_SAMPLES, dtype=np.float32), _WARM_UP_SAMPLES, self.initial_state(1))

    def initial_state(self, reach: int) -> OnnxState:
        nothing = np.zeros((self._sizes.heads, 0, self._sizes.width // self._sizes.heads), dtype=np.float32)
        return OnnxState(reach, len(self._past) * (nothing,))

    def forward(self, samples: FloatArray, kept_samples: int, state: OnnxState) -> tuple[FloatArray, OnnxState]:
        steps, kernel, stride = kept_samples // self._stride, self._conv.kernel_size[0], self._conv.stride[0]
        waves = min(kept_samples // stride, (len(samples) - kernel) // stride + 1)
        inputs: dict[str, NDArray[Any]] = {
            "samples": samples,
            "first": np.array(state.steps, dtype=np.int64),
            "waves": np.array([waves], dtype=np.int64),
            "count": np.array(state.level.count, dtype=np.float64),
            "total": np.array(state.level.total),
            "squares": np.array(state.level.squares),
            "lower": self._kept(state.past[0], steps, state.reach),
            **dict(zip(self._past, state.past, strict=True)),
        }
        if self._joined:
            inputs["upper"] = self._kept(state.past[-1], steps // 2, state.reach // 2)
        if not kept_samples:
            [logits] = self._session.run(self._outputs[:1], inputs)
            return logits, state
        logits, total, squares, *past = self._session.run(self._outputs, inputs)
        level = state.level.plus(waves * self._sizes.width, float(total), float(squares))
        return logits, OnnxState(state.reach, tuple(past), state.steps + steps, level)

    @staticmethod
    def _kept(past: FloatArray, new: int, reach: int) -> NDArray[np.int64]:
        """Where what is kept begins and ends in past and new frames together."""
        stop = past.shape[1] + new
        return np.array([max(0, stop - reach), stop], dtype=np.int64)
