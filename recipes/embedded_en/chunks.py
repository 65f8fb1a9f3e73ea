"""Limiting what a frame may look at, as a stream limits it.

A model that was trained on whole utterances only leans on words that a live window has not heard yet. So part of the
batches is trained with the past cut off, and the future: frames of a chunk see their own chunk, some frames before it
and some after it. The sizes are drawn anew for each batch, so that one model is good at many latencies.

Source: Zhang et al., "Unified Streaming and Non-streaming Two-pass End-to-end Model for Speech Recognition", 2020
(chunk sizes drawn at random).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """How chunks are drawn.

    Attributes:
        part: of the batches that are limited at all, 0 to 1.
        chunk_frames: shortest and longest chunk.
        left_frames: least and most that a chunk sees of what was before it.
        ahead_frames: the same of what comes after it.
    """

    part: float
    chunk_frames: tuple[int, int]
    left_frames: tuple[int, int]
    ahead_frames: tuple[int, int]

    def draw(self, frames: int, rng: np.random.Generator) -> Tensor | None:
        """A mask for a batch: bool, shape (frames, frames), true where the row's frame may look at the column's; None
        for no limit."""
        if rng.random() >= self.part:
            return None
        sizes = (self.chunk_frames, self.left_frames, self.ahead_frames)
        chunk, left, ahead = (int(rng.integers(low, high + 1)) for low, high in sizes)
        return chunk_mask(frames, chunk, left, ahead, int(rng.integers(chunk)))


def chunk_mask(frames: int, chunk: int, left: int, ahead: int = 0, first: int = 0) -> Tensor:
    """Each frame sees its own chunk, ``left`` frames before that and ``ahead`` after it.

    Args:
        first: frames of the first chunk, if it is to be shorter than the others; 0 for a whole one.

    Returns:
        bool, shape (frames, frames), true where the row's frame may look at the column's.
    """
    place = torch.arange(frames)
    offset = (chunk - first) % chunk
    starts = (place + offset) // chunk * chunk - offset
    column = place[None, :]
    return (column >= (starts - left)[:, None]) & (column < (starts + chunk + ahead)[:, None])
