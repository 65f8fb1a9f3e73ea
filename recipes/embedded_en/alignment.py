"""Where in a recording its words are: the best path through a CTC model's outputs that spells its text.

Source: Viterbi alignment on the states of Graves et al., "Connectionist Temporal Classification: Labelling
Unsegmented Sequence Data with Recurrent Neural Networks", 2006, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stream_asr.array_types import FloatArray


def align(log_probs: FloatArray, ids: Sequence[int], blank: int) -> npt.NDArray[np.int64] | None:
    """The frame at which each output begins.

    Args:
        log_probs: natural logarithms, float32, shape (frames, vocabulary).
        ids: the outputs of the text, without blanks; at least one.

    Returns:
        int64, shape (len(ids),), increasing; None if there are too few frames.
    """
    frames, states = len(log_probs), 2 * len(ids) + 1
    outputs = np.full(states, blank)
    outputs[1::2] = ids
    # The blank between two different outputs may be left out.
    skips = np.zeros(states, dtype=bool)
    skips[3::2] = outputs[3::2] != outputs[1:-2:2]
    scores = np.full(states + 2, -np.inf, dtype=np.float32)  # two states more in front, never entered
    scores[2:4] = log_probs[0, outputs[:2]]
    came_by = np.zeros((frames, states), dtype=np.int8)
    for frame in range(1, frames):
        ways = np.stack([scores[2:], scores[1:-1], np.where(skips, scores[:-2], -np.inf)])
        came_by[frame] = ways.argmax(axis=0)
        scores[2:] = ways.max(axis=0) + log_probs[frame, outputs]
    state = states - 1 if scores[-1] >= scores[-2] else states - 2
    if not np.isfinite(scores[state + 2]):
        return None
    begins = np.zeros(states, dtype=np.int64)
    for frame in range(frames - 1, -1, -1):
        begins[state] = frame
        state -= int(came_by[frame, state])
    return begins[1::2]
