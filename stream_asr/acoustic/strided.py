"""Convolutions of streams."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Strided(nn.Conv1d):
    """A convolution as one matrix product, which is faster for as few frames as a stream has at a time, and no slower
    for many.

    ``(batch, steps, channels)`` in, ``(batch, frames, channels of the output)`` out; the parameters are those of
    PyTorch's convolution, for the sake of checkpoints.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel_size: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel_size, stride)
        self.product: nn.Module | None = None
        """In place of the parameters, where another product is faster."""

    def forward(self, x: Tensor) -> Tensor:
        spans = x.unfold(1, self.kernel_size[0], self.stride[0]).flatten(2)
        if self.product is None:
            return F.linear(spans, self.weight.flatten(1), self.bias)
        frames: Tensor = self.product(spans)
        return frames
