"""Passes of a model that are recorded once for each shape of their inputs and played back from then on.

A small model on a GPU spends most of a pass waiting for the next kernel to be launched; a recording launches all of
them at once. It holds for one shape only, so shapes are kept few: see `bucket`. A shape that comes for the first time
runs without a recording, because it may never come again; and whatever cannot be recorded, or sounds different from the
model itself when played back, is left to the model for good.

Source: NVIDIA, "CUDA C++ Programming Guide", section "CUDA Graphs"; PyTorch's notes on CUDA semantics, "CUDA Graphs".
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

Inputs: TypeAlias = Mapping[str, Tensor]
Run: TypeAlias = Callable[[Inputs], Tensor]
Recorder: TypeAlias = Callable[[Run, Inputs], Run]
"""Makes of a run and an example of its inputs one that does the same, faster, for all inputs of these shapes. What that
returns is overwritten by the next."""

_Shape: TypeAlias = tuple[tuple[str, torch.Size, torch.dtype], ...]

_MOST = 32
"""Recordings that are kept; each holds memory of the device."""

_SEEN = 512
"""Shapes that are remembered to have come before."""

_WARM_UPS = 3
_TOLERANCE = 0.05
"""Of logits, in half precision."""


def bucket(count: int) -> int:
    """The number of windows that as many are filled up to: a power of two."""
    return 1 << (count - 1).bit_length()


class Replays:
    """Calls like the run that it is made of.

    Args:
        run: one pass of a model.
        record: what records it.
        most: recordings kept; those unused for longest go first.
    """

    def __init__(self, run: Run, record: Recorder, most: int = _MOST) -> None:
        self._run = run
        self._record: Recorder | None = record
        self._most = most
        self._recorded: OrderedDict[_Shape, Run] = OrderedDict()
        self._seen: OrderedDict[_Shape, None] = OrderedDict()

    def __call__(self, inputs: Inputs) -> Tensor:
        shape = tuple((name, tensor.shape, tensor.dtype) for name, tensor in inputs.items())
        if (recorded := self._recorded.get(shape)) is not None:
            self._recorded.move_to_end(shape)
            return recorded(inputs)
        expected = self._run(inputs)
        if self._record is not None and shape in self._seen:
            self._try(shape, inputs, expected)
        self._seen[shape] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return expected

    def _try(self, shape: _Shape, inputs: Inputs, expected: Tensor) -> None:
        assert self._record is not None
        try:
            recorded = self._record(self._run, inputs)
            if not torch.allclose(recorded(inputs).float(), expected.float(), atol=_TOLERANCE):
                raise RuntimeError("what is played back differs")
        except Exception as error:  # such as a model that looks at its numbers to decide what to do
            _log.warning("passes of this model cannot be recorded, so each is launched anew: %s", error)
            self._record = None
            self._recorded.clear()
            return
        self._recorded[shape] = recorded
        if len(self._recorded) > self._most:
            self._recorded.popitem(last=False)


class CudaRecorder:
    """A `Recorder` by CUDA graphs, which share their memory: one is played back at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        # Warmed up and recorded on one stream: libraries get their workspaces for each.
        self._stream = torch.cuda.Stream(device)

    def __call__(self, run: Run, inputs: Inputs) -> Run:
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
