"""Fixtures of the command line tests: a clip, and a function that runs a command with the shared model."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import soundfile

from stream_asr import Recognizer, RecognizerConfig
from stream_asr.array_types import FloatArray
from stream_asr.decoding.casing import choose_casing
from stream_asr.vad.detectors import detector_factory
from tests.support.command_line import Result, RunCommand, run_main


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recognizer: Recognizer) -> RunCommand:
    """Run a command in this process, with the model that the tests share unless ``load_model`` is true."""

    def from_pretrained(
        name: str | None,
        config: RecognizerConfig,
        *,
        second_pass: str,
        lm: str | None,
        raw: bool,
        vad: str,
        **_: object,
    ) -> Recognizer:
        return Recognizer(
            recognizer.model,
            config,
            detector=detector_factory(vad, config.segmenter),
            lm=recognizer.lm if lm else None,
            casing=choose_casing(recognizer.model.labels, raw=raw),
            second_pass=recognizer.second_pass if second_pass == "auto" else None,
            raw=raw,
        )

    def run_command(*arguments: object, stdin: bytes = b"", load_model: bool = False) -> Result:
        with monkeypatch.context() as patch:
            if not load_model:
                patch.setattr(Recognizer, "from_pretrained", from_pretrained)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin))))
            return run_main(patch, capfd, *arguments)

    return run_command


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, speech: FloatArray) -> Path:
    """The first two sentences of the bundled recording, 6 seconds."""
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    soundfile.write(path, speech[: 6 * 16_000], 16_000)
    return path
