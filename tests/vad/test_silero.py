"""Silero VAD: the real network of the real package."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr import Final, InputError, Recognizer
from stream_asr.array_types import FloatArray
from stream_asr.config import SegmenterConfig
from stream_asr.vad import silero
from stream_asr.vad.detectors import detector_factory
from stream_asr.vad.endpointer import Boundary, Endpointer
from stream_asr.vad.silero import SileroDetector, SileroModel, SileroProbability
from tests.support.command_line import run_main

FRAME = SileroDetector.frame_samples


@pytest.fixture(scope="module")
def model() -> SileroModel:
    return SileroModel()


def frames(samples: FloatArray) -> list[bytes]:
    pcm = np.clip(samples * 32768, -32768, 32767).astype("<i2")
    return [frame.tobytes() for frame in pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)]


def boundaries(model: SileroModel, audio: FloatArray, sizes: list[int]) -> list[Boundary]:
    config = SegmenterConfig()
    detector = SileroDetector(SileroProbability(model), config.silero_threshold, config.silero_hysteresis)
    made = Endpointer(config, 320, 800, detector)
    found: list[Boundary] = []
    at, turn = 0, 0
    while at < len(audio):
        size = sizes[turn % len(sizes)]
        found += made.push(audio[at : at + size])
        at, turn = at + size, turn + 1
    return [*found, *made.finish()]


@pytest.fixture(scope="module")
def part(speech: FloatArray) -> FloatArray:
    """Two sentences and the pause between them."""
    return speech[: 5 * 16_000]


@pytest.fixture(scope="module")
def expected(model: SileroModel, part: FloatArray) -> list[Boundary]:
    found = boundaries(model, part, [len(part)])
    assert len(found) == 4
    return found


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(1, 6000), min_size=1, max_size=5))
def test_boundaries_depend_on_the_samples_not_on_the_blocks(
    model: SileroModel, part: FloatArray, expected: list[Boundary], sizes: list[int]
) -> None:
    assert boundaries(model, part, [size + 50 for size in sizes]) == expected


def test_streams_share_the_weights_and_nothing_else(model: SileroModel, part: FloatArray) -> None:
    heard = frames(part)
    alone = SileroProbability(model)
    expected = [alone(frame) for frame in heard]
    one, other, late = SileroProbability(model), SileroProbability(model), SileroProbability(model)
    for at, frame in enumerate(heard):
        assert one(frame) == expected[at]
        other(heard[-at])
        if at >= 20:
            assert late(heard[at - 20]) == expected[at - 20]


def test_voice_lasts_until_the_probability_falls_below_the_lower_threshold() -> None:
    told = iter([0.4, 0.6, 0.4, 0.36, 0.34, 0.4, 0.5])
    detector = SileroDetector(lambda frame: next(told), threshold=0.5, hysteresis=0.15)
    assert [detector(b"") for _ in range(7)] == [False, True, True, True, False, False, True]


def test_speech_is_found_and_noise_is_not(model: SileroModel, speech: FloatArray) -> None:
    found = boundaries(model, speech, [len(speech)])
    utterances = [(a.position, b.position) for a, b in zip(found[::2], found[1::2], strict=True)]
    inside = sum(float(np.square(speech[start:end]).sum()) for start, end in utterances)
    assert inside > 0.99 * float(np.square(speech).sum())
    hiss = np.random.default_rng(1).standard_normal(4 * 16_000).astype(np.float32)
    for loudness in (0.01, 0.3):
        assert boundaries(model, hiss * loudness, [len(hiss)]) == []


@pytest.mark.parametrize("missing", ["silero_vad", "onnxruntime"])
def test_without_its_packages_the_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def installed(name: str) -> ModuleSpec | None:
        return None if name == missing else ModuleSpec(name, None, origin="somewhere")

    monkeypatch.setattr(silero, "find_spec", installed)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"stream-asr\[silero\]"):
        Recognizer.from_pretrained(vad="silero")
    result = run_main(monkeypatch, capfd, "demo", "--vad", "silero")
    assert result.status == 2
    assert 'pip install "stream-asr[silero]"' in result.err


def test_the_package_is_not_imported() -> None:
    """It would set PyTorch to one thread."""
    SileroModel()
    assert "silero_vad" not in sys.modules


def test_a_detector_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="'psychic'; accepted are webrtc and silero"):
        detector_factory("psychic", SegmenterConfig())


def test_the_configuration_has_the_thresholds(part: FloatArray) -> None:
    voiced = []
    for threshold in (0.3, 0.9):
        detector = detector_factory("silero", SegmenterConfig(silero_threshold=threshold))()
        voiced.append(sum(detector(frame) for frame in frames(part)))
    assert voiced[0] > voiced[1] > 0.3 * len(part) / FRAME


def test_same_audio_same_text(recognizer: Recognizer, part: FloatArray) -> None:
    with Recognizer(recognizer.model, detector=detector_factory("silero", SegmenterConfig())) as made:
        expected = made.transcribe(part)
        assert len(expected.utterances) == 2
        with made.stream() as stream:
            for at in range(0, len(part), 777):
                stream.feed(part[at : at + 777])
                stream.drain()
            stream.finish()
            assert tuple(event for event in stream if isinstance(event, Final) and event.text) == expected.utterances
