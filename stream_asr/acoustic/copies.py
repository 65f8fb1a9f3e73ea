"""Tensors between the processor's memory and a device's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from stream_asr.arrays import FloatArray


class Copies(Protocol):
    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def to_host(self, tensor: Tensor) -> FloatArray:
        """float32; what is returned belongs to the caller."""


def copies_for(device: torch.device) -> Copies:
    return PinnedCopies(device) if device.type == "cuda" else PlainCopies(device)


class PlainCopies:
    """Each waits until it is done; where the device is the processor, nothing is copied."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def to_host(self, tensor: Tensor) -> FloatArray:
        array: FloatArray = tensor.float().cpu().numpy()
        return array


class PinnedCopies:
    """For CUDA: through pages of memory that stay where they are, on a stream of their own beside that of the model.

    PyTorch keeps such pages for the next copies, so that nothing is allocated but for the first of each size. Only what
    comes back is waited for, and neither the rest of the device nor other threads' work on it.

    Source: PyTorch's notes on CUDA semantics, "Use pinned memory buffers" and "CUDA streams".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.cuda.stream(self._stream):
            moved = {name: tensor.pin_memory().to(self._device, non_blocking=True) for name, tensor in tensors.items()}
        models = torch.cuda.current_stream(self._device)
        models.wait_stream(self._stream)
        for tensor in moved.values():
            tensor.record_stream(models)  # its memory is not free before the model is done with it
        return moved

    def to_host(self, tensor: Tensor) -> FloatArray:
        tensor = tensor.float()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            host = torch.empty(tensor.shape, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            done = torch.cuda.Event()
            done.record(self._stream)
        tensor.record_stream(self._stream)
        done.synchronize()
        array: FloatArray = host.numpy()
        return array
