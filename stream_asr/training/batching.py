"""Group utterances of similar length into batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_asr.training.settings import LENGTH_JITTER


def plan_batches(lengths: Sequence[float], limit: float, rng: np.random.Generator) -> list[list[int]]:
    """Group utterances of similar length into batches, and shuffle the batches.

    Args:
        lengths: length of each utterance, in any unit.
        limit: maximum length of a batch, padding included, in the same unit. A longer utterance gets its own batch.
        rng: source of all randomness; the same state gives the same batches.

    Returns:
        Indices into ``lengths``. Each index is in exactly one batch.
    """
    jittered = np.asarray(lengths) * (1 + rng.uniform(0, LENGTH_JITTER, size=len(lengths)))
    batches: list[list[int]] = []
    longest = 0.0
    for index in np.argsort(jittered, kind="stable").tolist():
        longest = max(longest, lengths[index])
        if batches and longest * (len(batches[-1]) + 1) <= limit:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return [batches[position] for position in rng.permutation(len(batches))]
