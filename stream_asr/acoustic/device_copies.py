"""Tensors between the processor's memory and a device's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from stream_asr.array_types import FloatArray


class Copies(Protocol):
    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the processor's memory, by the same names; the device may use them at once."""

    def to_host(self, tensor: Tensor) -> FloatArray:
        """float32; what is returned belongs to the caller."""


def copies_for(device: torch.device) -> Copies:
    """Those that suit the device."""
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

    PyTorch keeps such pages and uses them again once nobody holds them. The device's own memory is always that of the
    model's stream, which waits for what comes in; what goes out is waited for here. So no tensor is given up while the
    other stream has work to do on it.

    Source: PyTorch's notes on CUDA semantics, "Use pinned memory buffers" and "CUDA streams".
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def to_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        models = torch.cuda.current_stream(self._device)
        moved = {name: torch.empty_like(tensor, device=self._device) for name, tensor in tensors.items()}
        self._stream.wait_stream(models)  # which may still use this memory for what was there before
        with torch.cuda.stream(self._stream):
            for name, tensor in tensors.items():
                moved[name].copy_(tensor.pin_memory(), non_blocking=True)
        models.wait_stream(self._stream)
        return moved

    def to_host(self, tensor: Tensor) -> FloatArray:
        tensor = tensor.float()
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            host = torch.empty(tensor.shape, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            done = torch.cuda.Event()
            done.record(self._stream)
        done.synchronize()
        array: FloatArray = host.numpy()
        return array
