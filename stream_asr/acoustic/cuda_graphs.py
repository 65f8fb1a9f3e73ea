"""Model passes that are captured once for each input shape and replayed from then on.

A small model on a GPU spends most of a pass on kernel launches; a captured graph launches all kernels at once. A
graph is valid for one shape only, so there must be few shapes: batches are filled up to `bucket` windows, and windows
that may be padded to a multiple of `AcousticConfig.graph_length_ms`. A shape that occurs for the first time runs
eagerly, because it may never occur again.

Source: NVIDIA, "CUDA C++ Programming Guide", section "CUDA Graphs"; PyTorch's notes on CUDA semantics, "CUDA Graphs".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from stream_asr.config import AcousticConfig

_log = logging.getLogger(__name__)

CAPTURABLE = frozenset({"data2vec-audio", "hubert", "moonshine_ctc", "unispeech", "unispeech-sat", "wav2vec2"})
"""Model types that take waveforms and keep no tensor between passes.

A captured graph would continue to read such a tensor at its old address.
"""

Inputs: TypeAlias = Mapping[str, Tensor]
ForwardPass: TypeAlias = Callable[[Inputs], Tensor]
Capture: TypeAlias = Callable[[ForwardPass, Inputs], ForwardPass]
"""Captures a pass with example inputs. The result runs the same pass, faster, for all inputs of these shapes. Each call
overwrites the output of the call before."""

_Shape: TypeAlias = tuple[tuple[str, torch.Size, torch.dtype], ...]


def bucket(count: int) -> int:
    """Round a number of windows up to a power of two."""
    return 1 << (count - 1).bit_length()


class GraphCache:
    """Calls like the pass that it wraps, from one thread at a time.

    Args:
        forward: a model pass, inputs to logits of shape (windows, frames, tokens).
        capture: captures it.
        config: limits.

    Attributes:
        works: False once a pass could not be captured, or its replay differed. All passes run eagerly from then on.
    """

    def __init__(self, forward: ForwardPass, capture: Capture, config: AcousticConfig | None = None) -> None:
        self.works = True
        self._forward = forward
        self._capture = capture
        self._config = config or AcousticConfig()
        self._graphs: dict[_Shape, ForwardPass] = {}
        self._seen: set[_Shape] = set()

    def __call__(self, inputs: Inputs) -> Tensor:
        """Compute logits. The next call may overwrite them."""
        shape = tuple((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items())
        if (graph := self._graphs.get(shape)) is not None:
            return graph(inputs)
        expected = self._forward(inputs)
        if self.works and len(self._graphs) < self._config.max_graphs:
            if shape in self._seen:
                self._try_capture(shape, inputs, expected)
            elif len(self._seen) < self._config.max_seen_shapes:
                self._seen.add(shape)
        return expected

    def _try_capture(self, shape: _Shape, inputs: Inputs, expected: Tensor) -> None:
        try:
            graph = self._capture(self._forward, inputs)
            difference = float((_log_probs(graph(inputs)) - _log_probs(expected)).abs().mean())
            if not difference < self._config.max_graph_difference:
                raise RuntimeError(f"the replay differs by {difference:.3f}")
            self._graphs[shape] = graph
        except Exception as error:  # for example a model whose control flow depends on values
            _log.warning(
                "this model cannot be captured, so every pass runs eagerly; start without CUDA graphs: %s",
                error,
                exc_info=True,
            )
            self.works = False
            self._graphs.clear()


class CudaGraphCapture:
    """See `Capture`. All graphs share one memory pool, so one is replayed at a time.

    Args:
        device: of the model.
        config: number of passes before each capture.
    """

    def __init__(self, device: torch.device, config: AcousticConfig | None = None) -> None:
        self._device = device
        self._warm_ups = (config or AcousticConfig()).graph_warm_ups
        self._pool = torch.cuda.graph_pool_handle()
        # Warm-up and capture run on the same stream: libraries allocate workspaces for each stream.
        self._stream = torch.cuda.Stream(device)

    def __call__(self, forward: ForwardPass, inputs: Inputs) -> ForwardPass:
        """Capture a pass.

        Raises:
            RuntimeError: the pass does what cannot be captured, such as waiting for the device.
        """
        model_stream = torch.cuda.current_stream(self._device)
        static = {name: tensor.clone() for name, tensor in inputs.items()}
        self._stream.wait_stream(model_stream)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            for _ in range(self._warm_ups):
                forward(static)
            graph = torch.cuda.CUDAGraph()
            # "thread_local": other threads may use the device during the capture.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                output = forward(static)
        model_stream.wait_stream(self._stream)

        def replay(inputs: Inputs) -> Tensor:
            for name, tensor in inputs.items():
                static[name].copy_(tensor, non_blocking=True)
            graph.replay()
            return output

        return replay


def _log_probs(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(dim=-1)
