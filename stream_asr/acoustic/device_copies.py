"""Copies of tensors between the memory of the CPU and of a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from stream_asr.array_types import FloatArray


class DeviceCopies(Protocol):
    """Copies the inputs of a model to its device and the outputs back."""

    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy tensors from CPU memory, under the same names. The device may use the results at once."""

    def to_host(self, tensor: Tensor) -> FloatArray:
        """Copy a tensor to a new float32 array."""


def device_copies(device: torch.device) -> DeviceCopies:
    """Create the implementation that suits the device."""
    return PinnedCopies(device) if device.type == "cuda" else BlockingCopies(device)


class BlockingCopies:
    """Each copy blocks until it is done. On the CPU nothing is copied."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def to_host(self, tensor: Tensor) -> FloatArray:
        array: FloatArray = tensor.float().cpu().numpy()
        return array


class PinnedCopies:
    """CUDA copies through pinned memory, on a side stream next to the model's stream.

    PyTorch's caching allocator keeps pinned pages and reuses them once they are free. Device memory always belongs to
    the model's stream: that stream waits for inputs, and outputs are waited for here. So no tensor is freed while the
    side stream still works on it.

    Source: PyTorch's notes on CUDA semantics, "Use pinned memory buffers" and "CUDA streams".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side_stream = torch.cuda.Stream(device)

    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        model_stream = torch.cuda.current_stream(self._device)
        copied = {name: torch.empty_like(tensor, device=self._device) for name, tensor in tensors.items()}
        # The model's stream may still use this memory for an earlier tensor.
        self._side_stream.wait_stream(model_stream)
        with torch.cuda.stream(self._side_stream):
            for name, tensor in tensors.items():
                copied[name].copy_(tensor.pin_memory(), non_blocking=True)
        model_stream.wait_stream(self._side_stream)
        return copied

    def to_host(self, tensor: Tensor) -> FloatArray:
        tensor = tensor.float()
        self._side_stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._side_stream):
            host = torch.empty(tensor.shape, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._side_stream)
        copied.synchronize()
        array: FloatArray = host.numpy()
        return array
