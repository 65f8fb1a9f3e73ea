"""Reference words, and the metrics of captions that are compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import BUNDLED, Playlist, PlaylistItem, Utterance, read_corpus
from recognizers.metrics import collect_captions, match_words, measure_stream
from recognizers.reference import (
    SpokenWord,
    align_recordings,
    align_words,
    ctm_aligner,
    join_recordings,
    model_aligner,
)
from recognizers.runner import CaptionLine
from recognizers.worker import SAMPLE_RATE

from stream_asr import InputError
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.alignment import ForcedAligner
from tests.support.fakes import FakeModel


def spoken(*words: tuple[str, float, float]) -> tuple[SpokenWord, ...]:
    return tuple(SpokenWord(*word) for word in words)


def partial(at_s: float, text: str) -> CaptionLine:
    return CaptionLine(at_s, False, text)


def final(at_s: float, text: str) -> CaptionLine:
    return CaptionLine(at_s, True, text)


def assert_words(words: Sequence[SpokenWord] | None, expected: Sequence[tuple[str, float, float]]) -> None:
    assert words is not None
    assert [word.word for word in words] == [text for text, _, _ in expected]
    times_s = [(word.start_s, word.end_s) for word in words]
    np.testing.assert_allclose(times_s, [(start_s, end_s) for _, start_s, end_s in expected])


# --- metrics ------------------------------------------------------------------------------------------------


def test_latencies_and_revisions_of_a_stream() -> None:
    reference = spoken(("ASK", 0.8, 1.0), ("NOT", 1.2, 1.5), ("WHY", 3.0, 3.2))
    metrics = measure_stream(
        reference,
        [
            partial(1.1, "ass"),
            partial(1.4, "Ask"),
            partial(1.7, "ask not,"),
            final(2.6, "Ask not."),
            partial(3.3, "why"),
            final(4.0, "Why?"),
        ],
    )
    assert metrics.wer == 0
    assert metrics.word_first_ms == pytest.approx([100, 200, 400])
    assert metrics.final_ms == pytest.approx([800, 1100])
    assert metrics.upwr == pytest.approx(1 / 3), "one word was revised, three are final"
    assert metrics.text == "ASK NOT WHY"


def test_words_that_become_final_one_by_one_are_not_revised() -> None:
    reference = spoken(("A", 0.0, 0.1), ("B", 0.2, 0.3), ("C", 0.4, 0.5))
    lines = [partial(0.6, "a b c"), final(0.9, "a"), partial(0.9, "b c"), final(1.2, "b c")]
    metrics = measure_stream(reference, lines)
    assert metrics.upwr == 0
    assert metrics.word_first_ms == pytest.approx([100, 300, 500]), "all three first appeared at 0.6 s"
    assert metrics.final_ms == pytest.approx([700])


def test_word_does_not_appear_before_its_start() -> None:
    reference = spoken(("THE", 0.0, 0.2), ("CAT", 0.3, 0.5), ("THE", 2.0, 2.2))
    metrics = measure_stream(reference, [partial(0.4, "the"), partial(0.7, "the cat the"), final(2.5, "the cat the")])
    assert metrics.word_first_ms == pytest.approx([200, 200, 300])


def test_only_correct_words_have_a_latency() -> None:
    reference = spoken(("ASK", 0.0, 0.2), ("NOT", 0.3, 0.5))
    metrics = measure_stream(reference, [final(1.0, "ask knot please")])
    assert metrics.wer == pytest.approx(100), "a substitution and an insertion"
    assert metrics.word_first_ms == pytest.approx([800])
    assert metrics.final_ms == pytest.approx([500]), "the last recognized word counts even if it is wrong"


def test_stream_without_recognized_words() -> None:
    metrics = measure_stream(spoken(("ASK", 0.0, 0.2)), [partial(0.5, "as"), final(1.0, "")])
    assert (metrics.wer, metrics.word_first_ms, metrics.final_ms, metrics.upwr) == (100, (), (), 0)


def test_lines_of_the_same_time_are_one_caption() -> None:
    finals, captions = collect_captions([partial(1, "a b"), final(2, "a"), partial(2, "b"), final(3, "b")])
    assert finals == ["A", "B"]
    assert [(caption.final_words, caption.partial) for caption in captions] == [(0, ("A", "B")), (1, ("B",)), (2, ())]


def test_deleted_words_have_no_recognized_index() -> None:
    match = match_words(["A", "B", "C"], ["A", "C"])
    assert (match.errors, match.recognized, match.correct) == (1, (0, None, 1), (0, 2))


# --- reference words ------------------------------------------------------------------------------------------


def test_words_of_a_playlist_are_those_of_its_recordings() -> None:
    samples = np.ones(SAMPLE_RATE, dtype=np.float32)
    utterance = Utterance(Path("a.flac"), "", "a")
    items = tuple(PlaylistItem(utterance, samples, start_s) for start_s in (0.0, 2.0))
    playlist = Playlist(np.zeros(40_000, np.float32), items)
    recordings = align_recordings(
        playlist, lambda utterance, samples: spoken((utterance.text.upper(), 0.1, len(samples) / 32e3))
    )
    assert [recording.text for recording in recordings] == ["A", "A"]
    joined = join_recordings(playlist, recordings)
    assert_words(joined.words, [("A", 0.1, 0.5), ("A", 2.1, 2.5)])
    assert joined.samples is playlist.samples


class CertainModel(FakeModel):
    """A model with one certain token in each frame."""

    frame_samples = 1600
    labels = Labels(("", " a", "b", " c"), 0)

    def __init__(self, *tokens: int) -> None:
        super().__init__()
        self._tokens = tokens

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        assert [len(window) for window in windows] == [1600 * len(self._tokens)]
        return [np.where(np.eye(4, dtype=bool)[list(self._tokens)], -0.01, -9.0).astype(np.float32)]


@pytest.fixture
def model() -> CertainModel:
    return CertainModel(0, 1, 2, 0, 3, 3)


@pytest.fixture
def aligner(model: CertainModel) -> ForcedAligner:
    return ForcedAligner(model.labels)


def test_words_are_at_the_frames_of_their_tokens(model: CertainModel, aligner: ForcedAligner) -> None:
    words = align_words(model, aligner, np.zeros(9000, dtype=np.float32), "AB C")
    assert_words(words, [("AB", 0.1, 0.3), ("C", 0.4, 0.5)])


def test_empty_text_has_no_words(model: CertainModel, aligner: ForcedAligner) -> None:
    assert align_words(model, aligner, np.zeros(9000, dtype=np.float32), "") == ()


def test_text_with_more_tokens_than_frames_is_not_aligned(model: CertainModel, aligner: ForcedAligner) -> None:
    assert align_words(model, aligner, np.zeros(9000, dtype=np.float32), "AB AB AB AB") is None


@pytest.mark.slow
def test_embedded_model_aligns_words() -> None:
    (utterance,) = read_corpus(BUNDLED)
    samples = utterance.read_samples()[: int(1.2 * SAMPLE_RATE)]
    align = model_aligner()
    good, morning = align(replace(utterance, text="Good morning."), samples)
    assert (good.word, morning.word) == ("GOOD", "MORNING")
    assert 0 <= good.start_s < good.end_s <= morning.start_s < morning.end_s <= 1.2
    with pytest.raises(InputError, match="too short for its text"):
        align(utterance, samples)


def test_word_times_are_read_from_a_ctm_file(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(";; a comment\ntalk 1 0.50 0.25 not\ntalk 1 0.10 0.20 Ask, 0.9\nother 1 0 1 else\n")
    align = ctm_aligner(path)
    samples = np.zeros(16, dtype=np.float32)
    words = align(Utterance(Path("a/talk.flac"), "", "ask not"), samples)
    assert_words(words, [("ASK", 0.1, 0.3), ("NOT", 0.5, 0.75)])
    with pytest.raises(InputError, match=r"the words of talk in .* differ from its transcript"):
        align(Utterance(Path("a/talk.flac"), "", "ask"), samples)
