"""Decoding with the attention decoder: drafts, prefixes, states and batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_asr.acoustic.base import Chunk, DecodeOutput, StatefulModel
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.decoder_checkpoint import load_decoder
from stream_asr.acoustic.moonshine.decoder_torch import TorchDecoder
from stream_asr.acoustic.moonshine.second_pass import DecoderState, MoonshineSecondPass
from stream_asr.acoustic.one_per_core import CorePool
from stream_asr.array_types import FloatArray
from tests.support.decoders import SMALL, decode_greedily, make_checkpoint, make_request, random_states

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE_LEFT_SAMPLES = 100 * 16_000
TOKENS = st.lists(st.integers(0, SMALL.tokens - 1), max_size=10).map(tuple)
TEXT = "Good morning"


@pytest.fixture(scope="module")
def small() -> MoonshineSecondPass:
    """A small decoder in PyTorch that runs batches."""
    checkpoint = make_checkpoint()
    runner = TorchDecoder(load_decoder(checkpoint), torch.device("cpu"))
    return MoonshineSecondPass("small", checkpoint.vocabulary, checkpoint.begin, runner, None, 8)


def load_second_pass(**options: Any) -> tuple[StatefulModel, MoonshineSecondPass]:
    model = load_model(device="cpu", **{"precision": "float32", **options})
    assert isinstance(model, StatefulModel)
    assert isinstance(model.second_pass, MoonshineSecondPass)
    return model, model.second_pass


def encode(model: StatefulModel, samples: FloatArray) -> FloatArray:
    chunk = Chunk(samples, len(samples), model.initial_state(WIDE_LEFT_SAMPLES))
    [output] = model.forward_chunks([chunk])
    assert output.encoded is not None
    return output.encoded


def assert_same(found: DecodeOutput, expected: DecodeOutput) -> None:
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-3)


# --- drafts, prefixes, states ---------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data())
def test_draft_changes_only_the_speed(data: st.DataObject, small: MoonshineSecondPass) -> None:
    request = make_request(small, random_states(data.draw(st.integers(1, 20)), seed=data.draw(st.integers(0, 5))))
    request = replace(request, prefix=data.draw(TOKENS), max_tokens=data.draw(st.integers(0, 20)))
    [expected] = small.decode([request])
    correct = expected.tokens[len(request.prefix) :]
    draft = correct[: data.draw(st.integers(0, len(correct)))] + data.draw(TOKENS)
    [found] = small.decode([replace(request, draft=draft)])
    assert_same(found, expected)
    assert_same(expected, decode_greedily(small, request))
    assert found.tokens[: len(request.prefix)] == request.prefix
    assert len(found.tokens) <= max(request.max_tokens, len(request.prefix))
    assert small.vocabulary.end not in correct


@settings(max_examples=40)
@given(data=st.data())
def test_draft_changes_only_the_speed_of_later_requests(data: st.DataObject, small: MoonshineSecondPass) -> None:
    first = make_request(small, random_states(9), prefix=data.draw(TOKENS), kept_frames=5)
    [output] = small.decode([first])
    shared = data.draw(st.integers(0, len(first.prefix)))
    prefix = first.prefix[:shared] + data.draw(TOKENS)
    second = make_request(small, random_states(6, seed=1), state=output.state, prefix=prefix)
    [expected] = small.decode([second])
    [found] = small.decode([replace(second, draft=expected.tokens[len(prefix) :][:3] + data.draw(TOKENS))])
    assert_same(found, expected)


def test_small_decoder_writes_various_texts(small: MoonshineSecondPass) -> None:
    outputs = small.decode([make_request(small, random_states(12, seed=seed)) for seed in range(4)])
    assert len({output.tokens for output in outputs}) == 4
    assert all(len(set(output.tokens)) > 3 for output in outputs)


def test_log_probs_of_a_prefix_do_not_depend_on_the_state(small: MoonshineSecondPass) -> None:
    """With the same audio, the cached keys and values of a prefix are those that a first request computes."""
    states = random_states(12)
    [whole] = small.decode([make_request(small, states)])
    [first] = small.decode([make_request(small, states, prefix=whole.tokens[:6], max_tokens=6)])
    nothing = states[:0]
    for length in (6, 9, 4):
        request = make_request(small, nothing, state=first.state, prefix=whole.tokens[:length])
        [found] = small.decode([request])
        assert found.tokens == whole.tokens
        # Kept frames are in half precision.
        np.testing.assert_allclose(found.log_probs, whole.log_probs, atol=0.05)


def test_frames_may_come_in_parts(small: MoonshineSecondPass) -> None:
    states = random_states(20)
    [whole] = small.decode([make_request(small, states)])
    state = small.initial_state()
    for start in range(0, 20, 5):
        request = make_request(small, states[start : start + 8], state=state, kept_frames=5)
        [output] = small.decode([request])
        state = output.state
    assert isinstance(state, DecoderState)
    assert {part.shape[2] for part in state.encoded} == {20}
    assert {part.dtype for part in state.encoded} == {torch.float16}
    [found] = small.decode([make_request(small, states[:0], state=state)])
    assert found.tokens == whole.tokens
    np.testing.assert_allclose(found.log_probs, whole.log_probs, atol=0.05)


def test_state_is_immutable(small: MoonshineSecondPass) -> None:
    [output] = small.decode([make_request(small, random_states(10), prefix=(5, 6), kept_frames=7)])
    request = make_request(small, random_states(6, seed=1), state=output.state, prefix=(5, 6, 7))
    [first] = small.decode([request])
    small.decode([replace(request, prefix=(5, 9), draft=(3, 3, 3))])
    [again] = small.decode([request])
    assert first.tokens == again.tokens
    assert first.log_probs == again.log_probs


def test_request_without_audio_returns_the_prefix(small: MoonshineSecondPass) -> None:
    [output] = small.decode([make_request(small, random_states(0), prefix=(4, 5))])
    assert output.tokens == (4, 5)
    assert len(output.log_probs) == 2
    request = make_request(small, random_states(9), state=output.state, prefix=(4, 5))
    assert_same(small.decode([request])[0], small.decode([replace(request, state=small.initial_state())])[0])


@settings(max_examples=40)
@given(data=st.data())
def test_batch_equals_single_requests(data: st.DataObject, small: MoonshineSecondPass) -> None:
    requests = []
    for seed in range(data.draw(st.integers(2, 5))):
        [earlier] = small.decode([make_request(small, random_states(data.draw(st.integers(1, 9))), prefix=(seed + 3,))])
        state = data.draw(st.sampled_from([small.initial_state(), earlier.state]))
        states = random_states(data.draw(st.integers(1, 20)), seed=seed)
        request = make_request(small, states, state=state, prefix=data.draw(TOKENS), draft=data.draw(TOKENS))
        requests.append(replace(request, max_tokens=data.draw(st.integers(0, 20))))
    for request, found in zip(requests, small.decode(requests), strict=True):
        [expected] = small.decode([request])
        assert_same(found, expected)


def test_requests_run_in_parallel() -> None:
    checkpoint = make_checkpoint()
    runner = TorchDecoder(load_decoder(checkpoint), torch.device("cpu"))
    batched = MoonshineSecondPass("small", checkpoint.vocabulary, checkpoint.begin, runner, None, 8)
    parallel = MoonshineSecondPass("small", checkpoint.vocabulary, checkpoint.begin, runner, CorePool(2))
    assert (batched.parallel_requests, parallel.parallel_requests) == (8, 2)
    requests = [make_request(batched, random_states(9, seed=seed)) for seed in range(5)]
    for found, expected in zip(parallel.decode(requests), batched.decode(requests), strict=True):
        assert_same(found, expected)


# --- the bundled decoder on speech ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> tuple[StatefulModel, MoonshineSecondPass]:
    return load_second_pass()


def test_bundled_model_has_a_second_pass(bundled: tuple[StatefulModel, MoonshineSecondPass]) -> None:
    model, decoder = bundled
    assert (decoder.name, decoder.backend, decoder.uses_audio) == ("embedded-en", "onnxruntime", False)
    assert decoder.parallel_requests == model.parallel_windows
    assert load_second_pass(backend="torch")[1].backend == "torch"


def test_speech_is_decoded(bundled: tuple[StatefulModel, MoonshineSecondPass], speech: FloatArray) -> None:
    model, decoder = bundled
    samples = speech[: 62 * 768]
    [output] = decoder.decode([make_request(decoder, encode(model, samples), max_tokens=40)])
    assert decoder.vocabulary.text(output.tokens).strip().startswith(TEXT)
    assert len(output.log_probs) == len(output.tokens)
    assert all(-5 < log_prob <= 0 for log_prob in output.log_probs)


def test_stream_is_decoded_like_a_whole_recording(
    bundled: tuple[StatefulModel, MoonshineSecondPass], speech: FloatArray
) -> None:
    model, decoder = bundled
    samples = speech[: 160 * 768]
    [whole] = decoder.decode([make_request(decoder, encode(model, samples), max_tokens=60)])
    state, encoder_state, output = decoder.initial_state(), model.initial_state(WIDE_LEFT_SAMPLES), None
    kept, right = 16 * 768, 24 * 768
    prefix, draft = tuple[int, ...](), tuple[int, ...]()
    for start in range(0, len(samples), kept):
        chunk = Chunk(samples[start:][: kept + right], kept, encoder_state)
        [encoded] = model.forward_chunks([chunk])
        encoder_state = encoded.state
        assert encoded.encoded is not None
        request = make_request(
            decoder, encoded.encoded, state=state, prefix=prefix, draft=draft, max_tokens=60, kept_frames=kept // 384
        )
        [output] = decoder.decode([request])
        # Half of the hypothesis is stable.
        prefix, draft = output.tokens[: len(output.tokens) // 2], output.tokens[len(output.tokens) // 2 :]
        state = output.state
    assert output is not None
    words, expected = (decoder.vocabulary.text(each.tokens).lower().split() for each in (output, whole))
    assert len(expected) > 8
    assert sum(word in expected for word in words) >= 0.75 * len(expected)


@pytest.mark.parametrize("seconds", [3, 8])
def test_onnxruntime_equals_pytorch(
    seconds: int, bundled: tuple[StatefulModel, MoonshineSecondPass], speech: FloatArray
) -> None:
    (model, onnx), (_, in_torch) = bundled, load_second_pass(backend="torch")
    encoded = encode(model, speech[: seconds * 16_000 // 768 * 768])
    outputs = [decoder.decode([make_request(decoder, encoded, max_tokens=50)])[0] for decoder in (onnx, in_torch)]
    assert_same(*outputs)
    prefix, draft = outputs[0].tokens[:4], (7, *outputs[0].tokens[5:])
    later = [
        decoder.decode([make_request(decoder, encoded[:9], state=output.state, prefix=prefix, draft=draft)])[0]
        for decoder, output in zip((onnx, in_torch), outputs, strict=True)
    ]
    assert_same(*later)


def test_drafts_change_nothing_in_onnxruntime(
    bundled: tuple[StatefulModel, MoonshineSecondPass], speech: FloatArray
) -> None:
    model, decoder = bundled
    encoded = encode(model, speech[: 100 * 768])
    [expected] = decoder.decode([make_request(decoder, encoded, max_tokens=40)])
    for draft in (expected.tokens, (*expected.tokens[:5], 9, *expected.tokens[6:]), (9, 9, 9)):
        [found] = decoder.decode([make_request(decoder, encoded, draft=draft, max_tokens=40)])
        assert_same(found, expected)
    [found] = decoder.decode([make_request(decoder, encoded, prefix=expected.tokens[:7], max_tokens=40)])
    assert_same(found, expected)


def test_int8_decodes_nearly_the_same(bundled: tuple[StatefulModel, MoonshineSecondPass], speech: FloatArray) -> None:
    (model, full), (_, quantized) = bundled, load_second_pass(precision="int8")
    encoded = encode(model, speech[: 150 * 768])
    [expected], [found] = (
        decoder.decode([make_request(decoder, encoded, max_tokens=60)]) for decoder in (full, quantized)
    )
    expected_words, words = (full.vocabulary.text(output.tokens).split() for output in (expected, found))
    assert sum(one == other for one, other in zip(words, expected_words, strict=False)) >= 0.8 * len(expected_words)
    assert np.abs(found.log_probs[0] - expected.log_probs[0]) > 1e-6, "nothing was quantized"
