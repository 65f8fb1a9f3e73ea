"""Recordings of passes by CUDA graphs.

Source: NVIDIA, "CUDA C++ Programming Guide", section "CUDA Graphs"; PyTorch's notes on CUDA semantics, "CUDA Graphs".
"""

from __future__ import annotations

import torch
from torch import Tensor

from stream_asr.acoustic.replays import Inputs, Run

_WARM_UPS = 3


class CudaRecorder:
    """See `stream_asr.acoustic.replays.Recorder`. The recordings share their memory: one is played back at a time."""

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
