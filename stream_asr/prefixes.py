"""What CTC prefix searches have in common: ways to a hypothesis, added up where they spell the same text.

Source: Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
DNNs", 2014, for the sums over alignments.
"""

from __future__ import annotations

from math import exp, inf, log1p
from typing import Any, TypeAlias

Offer: TypeAlias = tuple[float, float, float, int, Any, Any]
"""What may become a hypothesis: log-probabilities of its alignments that end in a blank and in its last output; what
its text is worth in nats; the hash of that text; what it comes of, and by which step.

A bare tuple, because a search makes hundreds a frame and keeps a few.
"""


def offer(offers: dict[Any, Offer], key: Any, new: Offer) -> None:
    """Add a way to a hypothesis: alignments of the same text add up, of two texts only the better one stays."""
    old = offers.setdefault(key, new)
    if old is new:
        return
    old_blank, old_sounding, old_worth, old_text, _, _ = old
    new_blank, new_sounding, new_worth, new_text, _, _ = new
    better = new if max(new_blank, new_sounding) + new_worth > max(old_blank, old_sounding) + old_worth else old
    if new_text == old_text:
        _, _, worth, text, origin, step = better
        better = (added(new_blank, old_blank), added(new_sounding, old_sounding), worth, text, origin, step)
    offers[key] = better


def score(offered: Offer) -> float:
    """Of all of its alignments, and of its text."""
    blank, sounding, worth, _, _, _ = offered
    return added(blank, sounding) + worth


def added(first: float, second: float) -> float:
    """The logarithm of a sum of probabilities."""
    if first < second:
        first, second = second, first
    return first if second == -inf else first + log1p(exp(second - first))
