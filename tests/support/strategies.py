"""Random speech for the fake model, as strategies of Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from tests.support.fakes import silence, sound

words = st.text("abcdefghijklmnopqrstuvwyz", min_size=1, max_size=9)


def sentences(max_words: int) -> st.SearchStrategy[str]:
    return st.lists(words, min_size=1, max_size=max_words).map(" ".join)


@st.composite
def speeches(draw: st.DrawFn, max_words: int) -> FloatArray:
    """Sentences and pauses of random length, not aligned to any grid."""
    parts = [silence(0.5), np.zeros(draw(st.integers(0, 319)), dtype=np.float32)]
    for _ in range(draw(st.integers(1, 3))):
        parts += [sound(draw(sentences(max_words))), np.zeros(draw(st.integers(0, 20_000)), dtype=np.float32)]
    return np.concatenate(parts)
