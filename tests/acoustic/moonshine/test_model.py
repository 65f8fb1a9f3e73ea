"""How models with Moonshine's encoder run on a GPU, tested on the CPU in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stream_asr import Recognizer
from stream_asr.acoustic.base import Checkpoint
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.moonshine import model as moonshine_model
from stream_asr.acoustic.moonshine.checkpoint import read_checkpoint
from stream_asr.acoustic.moonshine.decoder_torch import TorchDecoder
from stream_asr.acoustic.moonshine.encoder import find_encoder
from stream_asr.acoustic.moonshine.layers import KeysValues
from stream_asr.acoustic.moonshine.model import StatefulMoonshine, with_second_pass
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.acoustic.moonshine.streaming import forward_step
from stream_asr.acoustic.options import ModelOptions, check_options
from stream_asr.acoustic.transformers_ctc import TransformersCTC, make_runner
from stream_asr.array_types import FloatArray


@pytest.fixture(scope="module")
def options() -> ModelOptions:
    return check_options("cpu", "float32", "torch", False)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    loaded = read_checkpoint(EMBEDDED_FOLDER, "embedded-en", torch.float32)
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def runner(checkpoint: Checkpoint, options: ModelOptions) -> TransformersCTC:
    return make_runner(checkpoint, options)


def test_chunks_run_one_by_one_and_requests_in_batches(
    runner: TransformersCTC, checkpoint: Checkpoint, options: ModelOptions, speech: FloatArray
) -> None:
    model = with_second_pass(runner, checkpoint, options)
    assert isinstance(model, StatefulMoonshine)
    assert isinstance(model.second_pass, MoonshineSecondPass)
    assert (model.parallel_windows, model.backend, model.second_pass.backend) == (1, "torch", "torch")
    assert model.second_pass.parallel_requests == options.config.max_second_pass_batch > 1
    audio = speech[: 6 * 16_000]
    with Recognizer(model, second_pass=model.second_pass) as recognizer:
        text = recognizer.transcribe(audio).text
    with Recognizer.from_pretrained(device="cpu", precision="float32", backend="torch", lm=None) as on_cpu:
        assert text == on_cpu.transcribe(audio).text


def test_windows_run_in_batches_without_second_pass(
    runner: TransformersCTC, checkpoint: Checkpoint, options: ModelOptions
) -> None:
    for changed in (replace(options, cuda_graphs=True), replace(options, second_pass=False)):
        assert with_second_pass(runner, checkpoint, changed) is runner


def test_second_pass_is_left_out_if_the_device_cannot_run_it(
    runner: TransformersCTC,
    checkpoint: Checkpoint,
    options: ModelOptions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = torch.device("meta")  # has no values
    monkeypatch.setattr(moonshine_model, "TorchDecoder", lambda decoder, _: TorchDecoder(decoder, device))
    assert with_second_pass(runner, checkpoint, options) is runner
    assert "the decoder of 'embedded-en' does not run on cpu" in caplog.text


def test_moments_in_single_precision_are_close(runner: TransformersCTC, speech: FloatArray) -> None:
    """As on devices without float64."""
    encoder = find_encoder(runner.model)
    assert encoder is not None
    samples = torch.from_numpy(speech[16_000:][: 40 * 768])[None]
    width = encoder.sizes.width // encoder.sizes.heads
    empty = samples.new_empty((1, encoder.sizes.heads, 0, width))
    past = len(encoder.layers) * (KeysValues(empty, empty),)
    outputs = []
    for dtype in (torch.float64, torch.float32):
        with torch.inference_mode():
            step = forward_step(encoder, samples, torch.tensor(0.0), torch.zeros(3, dtype=dtype), past)
        assert step.moments.dtype == dtype
        outputs.append(step.frames)
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-3, rtol=1e-3)
