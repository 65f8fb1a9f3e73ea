"""Spotting phrases in the frames of a CTC model."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.alignment import ForcedAligner
from stream_asr.decoding.phrase_spotting import Occurrence, PhraseSpotter
from tests.support.fakes import LABELS, FakeModel, silence, sound

ALIGNER = ForcedAligner(LABELS)
LETTERS = Labels(("", " ", "a", "b", "ab"), blank=0)


def frames(text: str) -> FloatArray:
    """Return frames in which a wrong letter costs about 6 nats."""
    [log_probs] = FakeModel(context_frames=0).log_probs([np.concatenate([silence(0.2), sound(text), silence(0.2)])])
    clipped: FloatArray = np.maximum(log_probs, np.float32(-2))
    return clipped


def random_frames(seed: int, count: int) -> FloatArray:
    logits = np.random.default_rng(seed).normal(0, 2, (count, len(LETTERS.tokens)))
    log_probs: FloatArray = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return log_probs


def find(log_probs: FloatArray, *phrases: str, min_score: float = -50.0) -> list[Occurrence]:
    spotter = PhraseSpotter(ALIGNER, [phrase.split() for phrase in phrases], [min_score] * len(phrases))
    return spotter.find(log_probs)


def test_spoken_phrase_is_found_in_its_frames() -> None:
    [occurrence] = find(frames("we saw anneke visser today"), "anneke visser", min_score=-1)
    assert occurrence.score == pytest.approx(0, abs=1e-3)
    before = 10 + 4 * len("we saw ")
    assert occurrence.first_frame == before
    last_letter = before + 4 * (len("anneke visser") - 1)
    assert last_letter < occurrence.stop_frame <= last_letter + 4


def test_each_occurrence_is_found_once() -> None:
    found = find(frames("ada and ada"), "ada", min_score=-1)
    assert sorted(occurrence.first_frame for occurrence in found) == [10, 10 + 4 * len("ada and ")]


def test_similar_phrase_scores_lower() -> None:
    similar = find(frames("we saw anika visser"), "anneke visser")[0]
    assert -50 < similar.score < -10
    assert find(frames("we saw anika visser"), "anneke visser", min_score=similar.score + 1) == []


def test_phrases_are_found_independently_of_each_other() -> None:
    log_probs = frames("see anna at the opera")
    phrases = ["anna", "ann", "opera", "see anna", "tosca"]
    together = find(log_probs, *phrases)
    for index, phrase in enumerate(phrases):
        alone = [(each.first_frame, each.stop_frame, each.score) for each in find(log_probs, phrase)]
        assert alone == [
            (each.first_frame, each.stop_frame, each.score) for each in together if each.phrase == index
        ], phrase


def test_nothing_is_found_without_frames_or_phrases() -> None:
    assert find(frames("x")[:0], "x") == []
    assert find(frames("x")) == []


@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from(["a", "ab", "ba", "aa", "a b", "ab a"]))
def test_score_is_that_of_the_best_alignment_with_any_part_of_the_frames(seed: int, count: int, phrase: str) -> None:
    log_probs, aligner = random_frames(seed, count), ForcedAligner(LETTERS)
    best = log_probs.max(axis=1)
    expected = max(
        aligner.align(log_probs[start:stop], phrase.split()).log_prob - best[start:stop].sum()
        for start, stop in combinations(range(count + 1), 2)
    )
    found = PhraseSpotter(aligner, [phrase.split()], [-1000.0]).find(log_probs)
    if np.isinf(expected):
        assert found == []
        return
    assert max(each.score for each in found) == pytest.approx(expected, abs=1e-4)
    for each in found:
        part = slice(each.first_frame, each.stop_frame)
        score = aligner.align(log_probs[part], phrase.split()).log_prob - best[part].sum()
        assert each.score <= score + 1e-4
