"""Sounds without speech, and the count of the words that a recognizer writes in them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import false_words
import numpy as np
import pytest
from false_words import FalseText, SoundResult, make_tables, recognize_sound
from nonspeech import SOUNDS, Segment, generate_sound

from stream_asr import Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

LEVELS_DB = (-40.0, -20.0)


def segments(name: str, duration_s: float, seed: int = 1, levels_db: Sequence[float] = LEVELS_DB) -> list[Segment]:
    return list(generate_sound(name, duration_s, levels_db, np.random.default_rng(seed)))


def join(parts: Sequence[Segment]) -> FloatArray:
    return np.concatenate([part.samples for part in parts])


def loud_level_db(samples: FloatArray) -> float:
    frames = samples[: len(samples) // 800 * 800].reshape(-1, 800)
    return float(np.percentile(10 * np.log10(np.square(frames).mean(axis=1)), 95))


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_reproducible_and_depends_on_the_seed(name: str) -> None:
    first, again, other = (join(segments(name, 12, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) == 12 * SAMPLE_RATE
    assert first.dtype == np.float32
    assert np.array_equal(first, other) == (name == "silence")


@pytest.mark.parametrize("name", SOUNDS)
def test_shorter_sound_is_the_beginning_of_a_longer_one(name: str) -> None:
    assert np.array_equal(join(segments(name, 3)), join(segments(name, 12))[: 3 * SAMPLE_RATE])


@pytest.mark.parametrize("name", [name for name in SOUNDS if name != "silence"])
def test_levels_take_turns(name: str) -> None:
    parts = segments(name, 60)
    assert all(a.level_db != b.level_db for a, b in pairwise(parts))
    for part in parts[:-1]:  # the last one may be cut
        assert part.level_db is not None
        assert loud_level_db(part.samples) == pytest.approx(part.level_db, abs=1)


def test_silence_is_digital() -> None:
    assert not join(segments("silence", 12)).any()


def test_music_has_pitch_and_keyboard_has_pauses() -> None:
    (tune, *_), (keys, *_) = segments("music", 10), segments("keyboard", 10)
    spectrum = np.square(np.abs(np.fft.rfft(tune.samples)))
    assert np.sort(spectrum)[-len(spectrum) // 100 :].sum() > 0.8 * spectrum.sum()
    frames = np.square(keys.samples[: len(keys.samples) // 160 * 160]).reshape(-1, 160).mean(axis=1)
    assert np.mean(frames < frames.max() / 1000) > 0.3


@pytest.mark.parametrize("live", [False, True])
def test_words_are_counted_with_position_and_level(live: bool, recognizer: Recognizer, speech: FloatArray) -> None:
    def sound() -> Iterator[Segment]:
        yield Segment(np.zeros(2 * SAMPLE_RATE, dtype=np.float32), None)
        yield Segment(speech[: 6 * SAMPLE_RATE], -20.0)
        yield Segment(np.zeros(2 * SAMPLE_RATE, dtype=np.float32), None)

    result = recognize_sound(recognizer, "reading", sound(), live=live)
    assert result.audio_s == 10
    assert result.utterances >= 1
    assert result.words == sum(len(text.text.split()) for text in result.texts) > 5
    assert result.words_per_hour == pytest.approx(360 * result.words)
    assert 30 < result.utterance_percent < 90
    assert all(text.level_db == -20 and 1 < text.start_s < text.end_s <= 10 for text in result.texts)
    assert (result.partials_with_text > 0) == live


def test_silence_and_noise_have_no_words(recognizer: Recognizer) -> None:
    for name in ("silence", "white noise", "mains hum"):
        result = recognize_sound(recognizer, name, iter(segments(name, 15)), live=False)
        assert (result.audio_s, result.words) == (15, 0)


def test_tables_have_figures_and_some_texts() -> None:
    texts = [FalseText(12.5, 14, -30.0, "Oh no", 2, 0.25), FalseText(20, 21, None, "You", 1, 0.5)]
    results = [SoundResult("silence", 90.0), SoundResult("breath", 90.0, 4, 45.0, 3, texts)]
    sounds, finals = make_tables("a title", results, 1, live=True)
    assert sounds.columns[-1] == "partials"
    assert sounds.rows == [
        ["silence", "1.5", "0", "0 %", "0", "0", "0", "0"],
        ["breath", "1.5", "4", "50 %", "2", "3", "120", "3"],
    ]
    assert finals.rows == [["breath", "12.5-14.0 s", "-30 dBFS", "0.25", "Oh no"]]
    assert len(make_tables("a title", results[:1], 1, live=False)) == 1


def test_script_writes_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "report.json"
    command = ["false_words.py", "--sounds", "silence", "--minutes", "0.1", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", command)
    false_words.main()
    assert '"words_per_hour": 0.0' in report.read_text()
