"""CTC forced alignment: the best path through a model's outputs that spells a given text.

Source: Viterbi alignment on the states of Graves et al., "Connectionist Temporal Classification: Labelling
Unsegmented Sequence Data with Recurrent Neural Networks", 2006, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from stream_asr.array_types import FloatArray


def align(log_probs: FloatArray, ids: Sequence[int], blank: int) -> npt.NDArray[np.int64] | None:
    """Return the frame at which each token begins.

    Args:
        log_probs: natural logarithms, float32, shape (frames, vocabulary).
        ids: token ids of the text, without blanks; at least one.
        blank: id of the blank.

    Returns:
        int64, shape (len(ids),), increasing; None if there are too few frames.
    """
    frames, states = len(log_probs), 2 * len(ids) + 1
    tokens = np.full(states, blank)
    tokens[1::2] = ids
    # The blank between two different tokens is optional.
    may_skip = np.zeros(states, dtype=bool)
    may_skip[3::2] = tokens[3::2] != tokens[1:-2:2]
    scores = np.full(states + 2, -np.inf, dtype=np.float32)  # with two unreachable states in front
    scores[2:4] = log_probs[0, tokens[:2]]
    back_steps = np.zeros((frames, states), dtype=np.int8)
    for frame in range(1, frames):
        candidates = np.stack([scores[2:], scores[1:-1], np.where(may_skip, scores[:-2], -np.inf)])
        back_steps[frame] = candidates.argmax(axis=0)
        scores[2:] = candidates.max(axis=0) + log_probs[frame, tokens]
    state = states - 1 if scores[-1] >= scores[-2] else states - 2
    if not np.isfinite(scores[state + 2]):
        return None
    starts = np.zeros(states, dtype=np.int64)
    for frame in range(frames - 1, -1, -1):
        starts[state] = frame
        state -= int(back_steps[frame, state])
    return starts[1::2]
