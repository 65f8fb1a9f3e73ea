"""Capitals and punctuation of the texts that an attention decoder is trained to write."""

from __future__ import annotations

import pytest

from stream_asr.training.attention_targets import needs_hypothesis, written_text


@pytest.mark.parametrize(
    ("transcript", "hypothesis", "written"),
    [
        ("HELLO WORLD", "Hello, world!", "Hello, world!"),
        ("hello world", "", "Hello world"),
        ("I THINK I'M IN PARIS", "I sink I'm in Paris.", "I think I'm in Paris."),
        ("SHE MET MARLOWE", "She met Barlow.", "She met marlowe."),
        ("IS IT A GRAY ONE", "Is it a great one? Yes.", "Is it a gray one?"),
        ("R U B O U T", "R-U-B-O-U-T.", "R U B O U T."),
        ("ENTER A B THIRTY", "Enter AB30", "Enter A B thirty"),
        ("A SELF MADE MAN", "A self-made man.", "A self made man."),
    ],
)
def test_transcript_with_one_case_gets_capitals_and_punctuation(transcript: str, hypothesis: str, written: str) -> None:
    assert needs_hypothesis(transcript)
    assert written_text(transcript, hypothesis) == written


def test_punctuation_of_a_transcript_is_kept() -> None:
    assert needs_hypothesis("HELLO, WORLD.")
    assert written_text("HELLO, WORLD.", "Hello World!") == "Hello, World."


def test_capitals_of_a_transcript_are_kept() -> None:
    assert needs_hypothesis("call Doctor ROSS")
    assert written_text("call Doctor ROSS", "Call doctor, Ross.") == "call Doctor, ROSS."


def test_written_transcript_is_not_changed() -> None:
    assert not needs_hypothesis("Hello, World")
    assert written_text("Hello, World", "hello world.") == "Hello, World"
