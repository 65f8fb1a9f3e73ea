"""Training of both passes: batches, loss, gradients and transcription."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stream_asr.acoustic.base import DecodeRequest
from stream_asr.acoustic.moonshine.decoder_checkpoint import (
    DecoderCheckpoint,
    QuantizedWeight,
    load_decoder,
    read_decoder,
    save_decoder,
)
from stream_asr.acoustic.moonshine.decoder_torch import TorchDecoder
from stream_asr.acoustic.moonshine.second_pass import MoonshineSecondPass
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.training.alphabet import Target
from stream_asr.training.augmentation import SpecAugment
from stream_asr.training.scoring import plain_text
from stream_asr.training.settings import CTC_WEIGHT, LABEL_SMOOTHING
from stream_asr.training.trainable_ctc import TrainableCTC, enable_gradient_checkpointing, freeze_parameters
from stream_asr.training.trainable_two_pass import TrainableTwoPass
from tests.support.checkpoints import save_moonshine_ctc
from tests.support.training import make_letter_decoder

pytestmark = pytest.mark.usefixtures("one_thread")

Clip = tuple[FloatArray, Target]
NO_MASKS = SpecAugment(0.0, 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_pass")
    save_moonshine_ctc(folder, joined_after=1)
    return folder


@pytest.fixture
def decoder() -> DecoderCheckpoint:
    return make_letter_decoder()


@pytest.fixture
def model(folder: Path, decoder: DecoderCheckpoint) -> TrainableTwoPass:
    return TrainableTwoPass(load_runner(folder), NO_MASKS, decoder)


@pytest.fixture
def clips(speech: FloatArray, model: TrainableTwoPass) -> list[Clip]:
    texts = {9_001: "No.", 40_123: "Good morning", 25_000: "", 16_007: "Oh, no!"}
    return [
        (speech[4_000 * index :][:length], Target("good", (5, 7), "", model.encode(text)))
        for index, (length, text) in enumerate(texts.items(), 1)
    ]


def load_runner(folder: Path) -> TransformersCTC:
    pretrained = load_pretrained(folder)
    return TransformersCTC(
        pretrained.name,
        pretrained.model.eval(),
        pretrained.feature_extractor,
        pretrained.labels,
        device=torch.device("cpu"),
    )


def encode_clip(model: TrainableCTC, samples: FloatArray) -> Tensor:
    """Return the encoder states of a clip, computed step by step."""
    encoder = model.model.encoder
    padded = np.pad(samples, (0, -len(samples) % 768))
    assert not isinstance(encoder, Tensor)
    with torch.no_grad():
        states: Tensor = encoder.lower(encoder.features(torch.from_numpy(padded)[None]))  # type: ignore[operator]
    return states


def test_loss_is_the_weighted_sum_of_both_passes(
    folder: Path, model: TrainableTwoPass, decoder: DecoderCheckpoint, clips: list[Clip]
) -> None:
    ctc = TrainableCTC(load_runner(folder), NO_MASKS)
    ctc_loss = float(ctc.loss(ctc.collate(clips, None)).detach())
    network, begin, end = load_decoder(decoder), decoder.begin, decoder.vocabulary.end
    losses = []
    for samples, target in clips:
        with torch.no_grad():
            logits = network(torch.tensor([[begin, *target.tokens]]), encode_clip(model, samples))[0]
        expected = torch.tensor([*target.tokens, end])
        losses += F.cross_entropy(logits, expected, label_smoothing=LABEL_SMOOTHING, reduction="none").tolist()
    expected_loss = CTC_WEIGHT * ctc_loss + (1 - CTC_WEIGHT) * float(np.mean(losses))
    loss = float(model.loss(model.collate(clips, None)).detach())
    assert loss == pytest.approx(expected_loss, rel=1e-4)


def test_every_parameter_but_the_embedding_gets_a_gradient(model: TrainableTwoPass, clips: list[Clip]) -> None:
    freeze_parameters(model.model, feature_encoder=True, layers=0)
    model.loss(model.collate(clips, None)).backward()
    for name, weight in model.module.named_parameters():
        trained = "embed" not in name and ".conv" not in name and "groupnorm" not in name
        assert (weight.grad is not None) == weight.requires_grad == trained, name


def test_gradient_checkpointing_does_not_change_gradients(model: TrainableTwoPass, clips: list[Clip]) -> None:
    def gradients() -> list[Tensor]:
        model.module.train()
        model.module.zero_grad()
        model.loss(batch).backward()
        return [weight.grad.clone() for weight in model.module.parameters() if weight.grad is not None]

    freeze_parameters(model.model, feature_encoder=True, layers=0)
    batch = model.collate(clips, None)
    expected = gradients()
    enable_gradient_checkpointing(model.model)
    for stored, recomputed in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(stored, recomputed)


def test_clips_are_transcribed_as_the_recognizer_decodes_them(
    model: TrainableTwoPass, decoder: DecoderCheckpoint, clips: list[Clip]
) -> None:
    runner = TorchDecoder(load_decoder(decoder), torch.device("cpu"))
    second_pass = MoonshineSecondPass("", decoder.vocabulary, decoder.begin, runner, None)
    texts = []
    for samples, _ in clips:
        states = encode_clip(model, samples)[0].numpy()
        max_tokens = 3 + int(6.5 * (len(samples) + -len(samples) % 768) / 16_000)
        request = DecodeRequest(states, len(states), None, second_pass.initial_state(), (), (), max_tokens)
        [output] = second_pass.decode([request])
        texts.append(decoder.vocabulary.text(output.tokens).strip())
    batch = model.collate(clips, None)
    assert any(texts)
    assert model.write(batch) == texts
    assert model.transcribe(batch) == [plain_text(text) for text in texts]


def test_untrained_weights_are_saved_as_they_were_stored(
    folder: Path, decoder: DecoderCheckpoint, tmp_path: Path
) -> None:
    name = "embed_tokens.weight"
    width, tokens = decoder.sizes.width, decoder.sizes.tokens
    integers = np.random.default_rng(0).integers(-128, 127, (width, tokens)).astype(np.int8)
    quantized = QuantizedWeight(integers, np.full(tokens, 0.01, np.float32), np.zeros(tokens, np.int8))
    stored = replace(decoder, weights={**decoder.weights, name: quantized})
    model = TrainableTwoPass(load_runner(folder), NO_MASKS, stored)
    save_decoder(tmp_path, model.decoder_checkpoint())
    saved = read_decoder(tmp_path, "saved")
    assert saved is not None
    embedding = saved.weights[name]
    assert isinstance(embedding, QuantizedWeight)
    np.testing.assert_array_equal(embedding.integers, integers)
    assert all(
        weight.dtype == np.float16 for weight in saved.weights.values() if not isinstance(weight, QuantizedWeight)
    )
