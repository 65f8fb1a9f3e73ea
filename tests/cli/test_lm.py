"""Tests of ``stream-asr lm build`` and of the options ``--lm`` and ``--hotwords``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stream_asr import Recognizer
from stream_asr.acoustic import loading
from stream_asr.acoustic.base import AcousticModel
from stream_asr.decoding.casing import sentence_case
from stream_asr.lm.storage import load
from tests.support.command_line import RunCommand


@pytest.fixture
def shared_model(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer) -> AcousticModel:
    """The model that the tests share. `load_model` returns it, so that only language models and hotwords are loaded."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: recognizer.model)
    return recognizer.model


def test_user_learns_that_the_second_pass_replaces_words_of_a_language_model(
    run: RunCommand, tmp_path: Path, clip: Path
) -> None:
    hotwords = tmp_path / "names.txt"
    hotwords.write_text("demonstration\n")
    assert "add --second-pass none" in run("transcribe", clip, "--lm", "lm-en").err
    for options in (("--second-pass", "none", "--lm", "lm-en"), ("--no-lm",), ("--hotwords", hotwords)):
        assert run("transcribe", clip, *options).err == ""


def test_built_language_model_and_hotwords_change_the_text(
    run: RunCommand, tmp_path: Path, clip: Path, shared_model: AcousticModel
) -> None:
    text, model, hotwords = tmp_path / "text.txt", tmp_path / "my.lm", tmp_path / "names.txt"
    text.write_text("Good morning and welcome to the show. This is a small demonstration of live captions.\n")
    result = run("lm", "build", text, "--output", model)
    assert (result.status, result.out) == (0, "")
    assert ": 15 words;" in result.err
    hotwords.write_text("demonstration : 3\n")

    def transcribe(*options: object) -> list[str]:
        result = run("transcribe", clip, "--second-pass", "none", *options, load_model=True)
        assert result.status == 0, result.err
        return result.out.splitlines()

    def expected(**settings: Any) -> list[str]:
        with Recognizer(shared_model, casing=sentence_case, **settings) as configured:
            return [final.text for final in configured.transcribe(clip).utterances]

    assert transcribe("--lm", model) == expected(lm=load(model)) != transcribe("--no-lm") == expected()
    assert transcribe("--hotwords", hotwords, "--no-lm") == expected(hotwords={"demonstration": 3.0})


@pytest.mark.parametrize("name", ["text.txt", "more.txt"])
def test_build_does_not_overwrite_its_input(run: RunCommand, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("Good morning.\n")
    (tmp_path / "more.txt").write_text("evening\n")
    before = (tmp_path / name).read_bytes()
    options = ("--words", tmp_path / "more.txt", "--output", tmp_path / name)
    result = run("lm", "build", tmp_path / "text.txt", *options)
    assert result.status == 2
    assert "would be overwritten" in " ".join(result.err.split())
    assert (tmp_path / name).read_bytes() == before


def test_build_rejects_a_missing_text(run: RunCommand, tmp_path: Path) -> None:
    assert run("lm", "build", tmp_path / "no.txt", "--output", tmp_path / "my.lm").status == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lm", "none.lm"), "there is no language model"),
        (("--lm", "clip.wav"), "`stream-asr lm build`"),
        (("--lm", "x.lm", "--no-lm"), "exclude each other"),
        (("--lm-weight", "1", "--no-lm"), "exclude each other"),
        (("--hotwords", "missing.txt"), "cannot read the hotwords"),
        (("--hotwords", "names.txt"), "spell it as it is spoken"),
    ],
)
def test_unusable_language_model_or_hotwords_are_rejected(
    run: RunCommand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared_model: AcousticModel,
    clip: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip.wav").write_bytes(clip.read_bytes())
    Path("names.txt").write_text("R2D2\n")
    result = run("transcribe", "clip.wav", *options, load_model=True)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
