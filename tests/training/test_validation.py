"""Validation of recordings against their texts and the limits of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream_asr.acoustic.labels import Labels
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.manifest import Row
from stream_asr.training.validation import ValidationResult, validate_rows

ALPHABET = Alphabet(Labels(("", " ", *"abcdefghijklmnopqrstuvwxyz'"), blank=0))


class FiftyFramesPerSecond:
    """Implements `FrameCounter`."""

    def frame_count(self, samples: int) -> int:
        return samples // 320


@pytest.fixture
def one_second(tmp_path: Path) -> Path:
    """A recording of one second at 8 kHz."""
    path = tmp_path / "second.wav"
    soundfile.write(path, np.zeros(8_000), 8_000)
    return path


def validate(*rows: Row, max_clip_s: float = 60.0) -> ValidationResult:
    return validate_rows(rows, ALPHABET, FiftyFramesPerSecond(), max_clip_s)


def reason(row: Row) -> str:
    """Return why a row is unusable."""
    result = validate(row)
    assert not result.utterances
    assert result.bad_rows[0].line == row.line
    return result.bad_rows[0].reason


def test_usable_rows_become_utterances(one_second: Path) -> None:
    result = validate(Row(2, one_second, "Yes, yes."), Row(3, one_second, "no", "anna", 0.25, 1.04))
    whole, part = result.utterances
    assert (whole.seconds, whole.target.text, whole.end_s) == (1.0, "yes yes", None)
    assert part.seconds == pytest.approx(0.75, abs=0.001)
    assert (part.speaker, part.start_s) == ("anna", 0.25)
    assert result.dropped == {",": 1, ".": 1}


def test_unreadable_recordings_are_reported(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.flac").write_bytes(b"")
    assert "No such file" in reason(Row(2, tmp_path / "missing.wav", "yes"))
    assert "text.wav" in reason(Row(2, tmp_path / "text.wav", "yes"))
    assert "is empty" in reason(Row(2, tmp_path / "empty.flac", "yes"))


def test_text_outside_the_alphabet_is_reported(one_second: Path) -> None:
    assert "the model cannot write 5; its alphabet is \"'abc" in reason(Row(2, one_second, "at 5"))


def test_times_outside_the_recording_are_reported(one_second: Path) -> None:
    assert "start (2 s) is beyond the end" in reason(Row(2, one_second, "yes", start_s=2))
    assert "end (1.2 s) is beyond the end" in reason(Row(2, one_second, "yes", end_s=1.2))
    assert "no audio between start and end" in reason(Row(2, one_second, "yes", start_s=1.0))


def test_text_too_long_for_its_recording_is_reported(one_second: Path) -> None:
    assert "50 frames of the model, too few for 51 tokens, which need 51" in reason(Row(2, one_second, 17 * "abc"))
    assert "too few for 26 tokens, which need 51" in reason(Row(2, one_second, 26 * "a"))


def test_clip_longer_than_a_batch_is_reported(one_second: Path) -> None:
    result = validate(Row(2, one_second, "yes"), max_clip_s=0.5)
    assert "the longest batch is 0.5 s (--batch-seconds)" in result.bad_rows[0].reason


def test_damaged_recording_is_found_by_decoding_it(tmp_path: Path) -> None:
    path = tmp_path / "damaged.flac"
    soundfile.write(path, np.random.default_rng(0).normal(scale=0.1, size=160_000), 16_000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    assert "damaged.flac" in reason(Row(7, path, "yes"))


def test_progress_counts_recordings_not_rows(one_second: Path) -> None:
    calls: list[tuple[int, int]] = []
    rows = [Row(2, one_second, "yes"), Row(3, one_second, "no"), Row(4, one_second.with_name("other.wav"), "no")]
    validate_rows(rows, ALPHABET, FiftyFramesPerSecond(), 60.0, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
