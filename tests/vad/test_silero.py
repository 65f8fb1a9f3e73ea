"""Silero VAD, with the network of the package silero-vad."""

from __future__ import annotations

import sys

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


def to_frames(samples: FloatArray) -> list[bytes]:
    """Convert samples to whole frames of 16-bit PCM."""
    pcm = np.clip(samples * 32768, -32768, 32767).astype("<i2")
    return [frame.tobytes() for frame in pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)]


def find_boundaries(model: SileroModel, audio: FloatArray, block_sizes: list[int]) -> list[Boundary]:
    config = SegmenterConfig()
    detector = SileroDetector(SileroProbability(model), config.silero_threshold, config.silero_hysteresis)
    endpointer = Endpointer(config, 320, 12_800, detector)
    boundaries: list[Boundary] = []
    start, turn = 0, 0
    while start < len(audio):
        size = block_sizes[turn % len(block_sizes)]
        boundaries += endpointer.push(audio[start : start + size])
        start, turn = start + size, turn + 1
    return [*boundaries, *endpointer.finish()]


@pytest.fixture(scope="module")
def clip(speech: FloatArray) -> FloatArray:
    """Two sentences and the pause between them."""
    return speech[: 5 * 16_000]


@pytest.fixture(scope="module")
def expected(model: SileroModel, clip: FloatArray) -> list[Boundary]:
    """The boundaries of the clip, processed in one block."""
    boundaries = find_boundaries(model, clip, [len(clip)])
    assert len(boundaries) == 4
    return boundaries


@settings(max_examples=8)
@given(block_sizes=st.lists(st.integers(51, 6050), min_size=1, max_size=5))
def test_boundaries_do_not_depend_on_block_sizes(
    model: SileroModel, clip: FloatArray, expected: list[Boundary], block_sizes: list[int]
) -> None:
    assert find_boundaries(model, clip, block_sizes) == expected


def test_streams_share_weights_but_no_state(model: SileroModel, clip: FloatArray) -> None:
    frames = to_frames(clip)
    alone = SileroProbability(model)
    expected = [alone(frame) for frame in frames]
    first, other, delayed = SileroProbability(model), SileroProbability(model), SileroProbability(model)
    for index, frame in enumerate(frames):
        assert first(frame) == expected[index]
        other(frames[-index])
        if index >= 20:
            assert delayed(frames[index - 20]) == expected[index - 20]


def test_voice_lasts_until_the_probability_falls_below_the_lower_threshold() -> None:
    probabilities = iter([0.4, 0.6, 0.4, 0.36, 0.34, 0.4, 0.5])
    detector = SileroDetector(lambda frame: next(probabilities), threshold=0.5, hysteresis=0.15)
    assert [detector(b"") for _ in range(7)] == [False, True, True, True, False, False, True]


def test_speech_is_voiced_and_noise_is_not(model: SileroModel, speech: FloatArray) -> None:
    boundaries = find_boundaries(model, speech, [len(speech)])
    utterances = [(a.position, b.position) for a, b in zip(boundaries[::2], boundaries[1::2], strict=True)]
    energy_inside = sum(float(np.square(speech[start:end]).sum()) for start, end in utterances)
    assert energy_inside > 0.99 * float(np.square(speech).sum())
    noise = np.random.default_rng(1).standard_normal(4 * 16_000).astype(np.float32)
    for level in (0.01, 0.3):
        assert find_boundaries(model, noise * level, [len(noise)]) == []


def test_missing_package_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(silero, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"stream-asr\[silero\]"):
        Recognizer.from_pretrained(vad="silero")
    result = run_main(monkeypatch, capfd, "demo", "--vad", "silero")
    assert result.status == 2
    assert 'pip install "stream-asr[silero]"' in result.err


def test_package_silero_vad_is_not_imported() -> None:
    """The package would set PyTorch to one thread."""
    SileroModel()
    assert "silero_vad" not in sys.modules


def test_unknown_detector_is_an_error() -> None:
    with pytest.raises(InputError, match="'psychic'; accepted: webrtc and silero"):
        detector_factory("psychic", SegmenterConfig())


def test_thresholds_of_the_configuration_apply(clip: FloatArray) -> None:
    voiced_frames = []
    for threshold in (0.3, 0.9):
        detector = detector_factory("silero", SegmenterConfig(silero_threshold=threshold))()
        voiced_frames.append(sum(detector(frame) for frame in to_frames(clip)))
    assert voiced_frames[0] > voiced_frames[1] > 0.3 * len(clip) / FRAME


def test_same_audio_same_text(recognizer: Recognizer, clip: FloatArray) -> None:
    with Recognizer(recognizer.model, detector=detector_factory("silero", SegmenterConfig())) as silero_recognizer:
        expected = silero_recognizer.transcribe(clip)
        assert len(expected.utterances) == 2
        with silero_recognizer.stream() as stream:
            for start in range(0, len(clip), 777):
                stream.feed(clip[start : start + 777])
                stream.drain()
            stream.finish()
            assert tuple(event for event in stream if isinstance(event, Final) and event.text) == expected.utterances
