"""Which utterances go together: batches of about equal length, never longer than a limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_JITTER = 0.1
"""Lengths are sorted as if they were up to this part longer, so that an epoch's batches differ from the last one's."""


def plan(lengths: Sequence[float], limit: float, rng: np.random.Generator) -> list[list[int]]:
    """Put utterances of about equal length together, in an order that says nothing of their length.

    Args:
        lengths: of the utterances, in any unit.
        limit: of a batch, padding included, in the same unit. An utterance beyond it gets a batch of its own.
        rng: decides about ties, neighbours and order; the same state gives the same batches.

    Returns:
        Places in ``lengths``, each in exactly one batch.
    """
    jittered = np.asarray(lengths) * (1 + rng.uniform(0, _JITTER, size=len(lengths)))
    batches: list[list[int]] = []
    longest = 0.0
    for index in np.argsort(jittered, kind="stable").tolist():
        longest = max(longest, lengths[index])
        if batches and longest * (len(batches[-1]) + 1) <= limit:
            batches[-1].append(index)
        else:
            batches.append([index])
            longest = lengths[index]
    return [batches[place] for place in rng.permutation(len(batches))]
