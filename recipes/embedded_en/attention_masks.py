"""Attention masks that limit the context of a frame as in a stream.

A model that is trained on whole utterances relies on future words, which a live window does not contain yet. Therefore
attention is limited in a share of the batches: the frames of a chunk attend to their own chunk and to limited left and
right context. The sizes are drawn for each batch, so that one model works at many latencies.

Source: Zhang et al., "Unified Streaming and Non-streaming Two-pass End-to-end Model for Speech Recognition", 2020
(random chunk sizes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ChunkMaskSampler:
    """Draws random chunk masks; each pair is minimum and maximum.

    Attributes:
        probability: share of the batches whose attention is limited, 0 to 1.
        chunk_frames: size of a chunk.
        left_frames: left context of a chunk.
        right_frames: right context of a chunk.
    """

    probability: float
    chunk_frames: tuple[int, int]
    left_frames: tuple[int, int]
    right_frames: tuple[int, int]

    def sample(self, frames: int, rng: np.random.Generator) -> Tensor | None:
        """Draw a mask for a batch; see `chunk_mask`. None if attention is not limited."""
        if rng.random() >= self.probability:
            return None
        sizes = (self.chunk_frames, self.left_frames, self.right_frames)
        chunk, left, right = (int(rng.integers(low, high + 1)) for low, high in sizes)
        return chunk_mask(frames, chunk, left, right, int(rng.integers(chunk)))


def chunk_mask(frames: int, chunk: int, left: int, right: int = 0, first: int = 0) -> Tensor:
    """Return a mask with which each frame attends to its own chunk and its context.

    Args:
        frames: number of frames.
        chunk: frames of a chunk.
        left: left context of a chunk in frames.
        right: right context of a chunk in frames.
        first: frames of the first chunk if it is shorter than the others; 0 for a whole chunk.

    Returns:
        bool, shape (frames, frames), true where the row's frame attends to the column's.
    """
    index = torch.arange(frames)
    offset = (chunk - first) % chunk
    starts = (index + offset) // chunk * chunk - offset
    column = index[None, :]
    return (column >= (starts - left)[:, None]) & (column < (starts + chunk + right)[:, None])
