"""Recordings of passes by CUDA graphs.

Source: NVIDIA, "CUDA C++ Programming Guide", section "CUDA Graphs"; PyTorch's notes on CUDA semantics, "CUDA Graphs".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from stream_asr.config import SAMPLE_RATE

_WARM_UPS = 3


class CudaRecorder:
    """See `Recorder`. The recordings share their memory: one is played back at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # Warmed up and recorded on one stream: libraries get their workspaces for each.
        self._stream = torch.cuda.Stream(device)

    def __call__(self, run: Run, inputs: Inputs) -> Run:
        """
        Raises:
            RuntimeError: the run does what cannot be recorded, such as to wait for the device.
        """
        models = torch.cuda.current_stream(self._device)
        fixed = {name: tensor.clone() for name, tensor in inputs.items()}
        self._stream.wait_stream(models)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                run(fixed)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                output = run(fixed)
        models.wait_stream(self._stream)

        def played_back(inputs: Inputs) -> Tensor:
            for name, tensor in inputs.items():
                fixed[name].copy_(tensor, non_blocking=True)
            graph.replay()
            return output

        return played_back


_log = logging.getLogger(__name__)

RECORDABLE = frozenset({"data2vec-audio", "hubert", "moonshine_ctc", "unispeech", "unispeech-sat", "wav2vec2"})
"""Model types that take waveforms and keep nothing from one pass to the next, which a recording would go on reading
from where it once was."""

GRAIN_SAMPLES = SAMPLE_RATE // 5

Inputs: TypeAlias = Mapping[str, Tensor]
Run: TypeAlias = Callable[[Inputs], Tensor]
Recorder: TypeAlias = Callable[[Run, Inputs], Run]
"""Makes of a run and an example of its inputs one that does the same, faster, for all inputs of these shapes. What that
returns is overwritten by the next."""

_Shape: TypeAlias = tuple[tuple[str, torch.Size, torch.dtype], ...]

_MOST = 128
"""Recordings; those of other shapes are left alone then. Each holds memory of the device, and making one takes longer
than many passes."""

_SEEN = 1024
"""Shapes that are remembered to have come before."""

_TOLERANCE = 0.05
"""Of log-probabilities, on average over a batch: rounding in half precision stays far below."""


def bucket(count: int) -> int:
    """The number of windows that as many are filled up to: a power of two."""
    return 1 << (count - 1).bit_length()


class Replays:
    """Calls like the run that it is made of, from one thread at a time.

    Args:
        run: one pass of a model, inputs to logits of shape (windows, frames, outputs).
        record: what records it.
        most: recordings made.

    Attributes:
        works: False once something could not be recorded, or sounded different when played back: the model runs all
            by itself from then on.
    """

    def __init__(self, run: Run, record: Recorder, most: int = _MOST) -> None:
        self.works = True
        self._run = run
        self._record = record
        self._most = most
        self._recorded: dict[_Shape, Run] = {}
        self._seen: set[_Shape] = set()

    def __call__(self, inputs: Inputs) -> Tensor:
        """Logits; they may be overwritten by the next call."""
        shape = tuple((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items())
        if (recorded := self._recorded.get(shape)) is not None:
            return recorded(inputs)
        expected = self._run(inputs)
        if self.works and len(self._recorded) < self._most:
            if shape in self._seen:
                self._try(shape, inputs, expected)
            elif len(self._seen) < _SEEN:
                self._seen.add(shape)
        return expected

    def _try(self, shape: _Shape, inputs: Inputs, expected: Tensor) -> None:
        try:
            recorded = self._record(self._run, inputs)
            off = float((_log_probs(recorded(inputs)) - _log_probs(expected)).abs().mean())
            if not off < _TOLERANCE:
                raise RuntimeError(f"what is played back is {off:.3f} off")
            self._recorded[shape] = recorded
        except Exception as error:  # such as a model that looks at its numbers to decide what to do
            _log.warning(
                "this model cannot be recorded, so each pass is launched anew; better start without CUDA graphs: %s",
                error,
                exc_info=True,
            )
            self.works = False
            self._recorded.clear()


def _log_probs(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(dim=-1)
