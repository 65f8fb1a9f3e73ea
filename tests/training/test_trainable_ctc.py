"""Models in training. For every model family, a clip gives the same outputs in a batch as alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Target
from stream_asr.training.augmentation import SpecAugment
from stream_asr.training.trainable_ctc import Batch, TrainableCTC, enable_gradient_checkpointing, freeze_parameters
from tests.support.checkpoints import cached_checkpoints
from tests.support.training import MODEL_FAMILIES

pytestmark = pytest.mark.usefixtures("one_thread")

Clip = tuple[FloatArray, Target]
NO_MASKS = SpecAugment(0.0, 0.0)
MASKS = SpecAugment(0.3, 0.3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cached_checkpoints(tmp_path_factory, MODEL_FAMILIES)


@pytest.fixture(params=MODEL_FAMILIES)
def runner(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> TransformersCTC:
    """A freshly loaded model of each family."""
    return load(checkpoint(request.param))


@pytest.fixture
def clips(speech: FloatArray) -> list[Clip]:
    """Clips of four lengths, none of which is a whole number of strides."""
    lengths = (9_001, 40_123, 25_000, 16_007)
    return [(speech[4_000 * index :][:length], target(index)) for index, length in enumerate(lengths, 1)]


def load(folder: Path) -> TransformersCTC:
    pretrained = load_pretrained(folder)
    return TransformersCTC(
        pretrained.name,
        pretrained.model.eval(),
        pretrained.feature_extractor,
        pretrained.labels,
        device=torch.device("cpu"),
    )


def target(extra_tokens: int = 0) -> Target:
    return Target("good", (*range(5, 5 + extra_tokens), 7, 7), "")


def log_probs(ctc: TrainableCTC, batch: Batch) -> list[FloatArray]:
    """Log-probabilities of each clip, without padding."""
    outputs: list[FloatArray] = []
    for part in batch.micro_batches:
        with torch.no_grad():
            logits: Tensor = ctc.model(**part.inputs).logits
        rows = logits.log_softmax(-1).numpy()
        outputs += [row[:frames] for row, frames in zip(rows, part.frame_counts, strict=True)]
    return outputs


def test_clip_in_a_batch_gives_the_output_of_the_recognizer(runner: TransformersCTC, clips: list[Clip]) -> None:
    ctc = TrainableCTC(runner, NO_MASKS)
    batch = ctc.collate(clips, None)
    assert batch.seconds == pytest.approx(sum(len(samples) for samples, _ in clips) / 16_000)
    for (samples, _), batched in zip(clips, log_probs(ctc, batch), strict=True):
        padded = np.pad(samples, (0, -len(samples) % runner.frame_samples))
        (alone,) = runner.log_probs([padded])
        assert batched.shape == alone.shape == (ctc.frame_count(len(samples)), len(runner.labels.tokens))
        np.testing.assert_allclose(batched, alone, atol=1e-3)


def test_loss_of_a_batch_is_the_mean_over_all_tokens(runner: TransformersCTC, clips: list[Clip]) -> None:
    ctc = TrainableCTC(runner, NO_MASKS)
    losses = [float(ctc.loss(ctc.collate([clip], None)).detach()) for clip in clips]
    tokens = [len(target.ids) for _, target in clips]
    expected = sum(loss * count for loss, count in zip(losses, tokens, strict=True)) / sum(tokens)
    assert float(ctc.loss(ctc.collate(clips, None)).detach()) == pytest.approx(expected, rel=1e-4)


def test_loss_equals_the_loss_of_transformers(checkpoint: Callable[[str], Path], speech: FloatArray) -> None:
    runner = load(checkpoint("wav2vec2 layer norm"))
    ctc = TrainableCTC(runner, NO_MASKS)
    runner.model.config.ctc_loss_reduction = "mean"
    clip = (speech[:32_000], Target("", (5, 9, 9, 12), ""))
    (part,) = ctc.collate([clip], None).micro_batches
    expected = runner.model(**part.inputs, labels=torch.tensor([[5, 9, 9, 12]])).loss
    torch.testing.assert_close(ctc.loss(ctc.collate([clip], None)), expected)


def test_every_trainable_parameter_gets_a_gradient(runner: TransformersCTC, clips: list[Clip]) -> None:
    ctc = TrainableCTC(runner, NO_MASKS)
    freeze_parameters(ctc.model, feature_encoder=True, layers=0)
    ctc.loss(ctc.collate(clips, None)).backward()
    trainable = [(name, weight) for name, weight in ctc.model.named_parameters() if weight.requires_grad]
    assert trainable
    for name, weight in trainable:
        # Without SpecAugment the embedding of masked frames is unused.
        if "masked_spec_embed" not in name:
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


def test_feature_encoder_can_be_frozen(checkpoint: Callable[[str], Path]) -> None:
    model = load_pretrained(checkpoint("wav2vec2 group norm")).model
    freeze_parameters(model, feature_encoder=True, layers=0)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen
    assert all(name.startswith("wav2vec2.feature_extractor.") for name in frozen)


@pytest.mark.parametrize("name", [name for name in MODEL_FAMILIES if name != "parakeet"])
def test_lowest_layers_can_be_frozen(name: str, checkpoint: Callable[[str], Path]) -> None:
    model = load_pretrained(checkpoint(name)).model
    freeze_parameters(model, feature_encoder=True, layers=1)
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    heads = ("lm_head.", "ctc_head.")
    assert any("encoder.layers.1." in name for name in trainable)
    assert any(name.startswith(heads) for name in trainable)
    assert all(
        "encoder.layers.1." in name or "encoder.layer_norm." in name or name.startswith(heads) for name in trainable
    )
    with pytest.raises(InputError, match="cannot freeze 3 layers; the encoder has 2"):
        freeze_parameters(model, feature_encoder=True, layers=3)


def test_gradient_checkpointing_does_not_change_gradients(runner: TransformersCTC, clips: list[Clip]) -> None:
    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        np.random.seed(0)
        ctc.model.train()
        ctc.model.zero_grad()
        ctc.loss(batch).backward()
        return [weight.grad.clone() for weight in ctc.model.parameters() if weight.grad is not None]

    ctc = TrainableCTC(runner, NO_MASKS)
    freeze_parameters(ctc.model, feature_encoder=True, layers=0)
    batch = ctc.collate(clips, None)
    expected = gradients()
    enable_gradient_checkpointing(ctc.model)
    for stored, recomputed in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(stored, recomputed)


def test_masking_can_be_added_to_a_model_configured_without_it(
    checkpoint: Callable[[str], Path], speech: FloatArray, tmp_path: Path
) -> None:
    pretrained = load_pretrained(checkpoint("wav2vec2 layer norm"))
    del pretrained.model.wav2vec2.masked_spec_embed
    pretrained.model.config.mask_time_prob = 0.0
    for part in (pretrained.model, pretrained.feature_extractor, pretrained.tokenizer):
        part.save_pretrained(tmp_path)
    runner = load(tmp_path)
    assert not hasattr(runner.model.wav2vec2, "masked_spec_embed")
    ctc = TrainableCTC(runner, SpecAugment(0.3, 0.0))
    ctc.model.train()
    ctc.loss(ctc.collate([(speech[:32_000], target())], np.random.default_rng(0))).backward()
    assert runner.model.wav2vec2.masked_spec_embed.grad.abs().sum() > 0


def test_batch_normalization_keeps_its_statistics(checkpoint: Callable[[str], Path], speech: FloatArray) -> None:
    ctc = TrainableCTC(load(checkpoint("parakeet")), NO_MASKS)
    before = {name: buffer.clone() for name, buffer in ctc.model.named_buffers() if "running" in name}
    assert before
    ctc.model.train()
    ctc.loss(ctc.collate([(speech[:32_000], target())], None))
    for name, buffer in ctc.model.named_buffers():
        assert name not in before or torch.equal(buffer, before[name])


def test_clip_shorter_than_a_mask_is_padded(runner: TransformersCTC, speech: FloatArray) -> None:
    """Transformers rejects masks longer than the clip."""
    ctc = TrainableCTC(runner, MASKS)
    ctc.model.train()
    short = (speech[8_000:8_400], Target("", (7,), ""))
    loss = ctc.loss(ctc.collate([short], np.random.default_rng(0)))
    assert loss.isfinite()
    assert loss > 0


def test_masks_are_applied_in_training_only(runner: TransformersCTC, clips: list[Clip]) -> None:
    def losses(spec_augment: SpecAugment, rng: np.random.Generator | None, train: bool) -> set[float]:
        ctc = TrainableCTC(runner, spec_augment)
        ctc.model.train(train)
        for module in ctc.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        runner.model.config.layerdrop = 0.0
        return {float(ctc.loss(ctc.collate(clips[:2], rng)).detach()) for _ in range(3)}

    assert len(losses(MASKS, np.random.default_rng(0), train=True)) == 3
    assert len(losses(MASKS, None, train=False)) == 1


def test_clip_must_have_enough_frames_for_its_text(checkpoint: Callable[[str], Path]) -> None:
    ctc = TrainableCTC(load(checkpoint("moonshine")), NO_MASKS)
    assert ctc.frame_count(384 * 20) == 18
    assert ctc.fits(384 * 13 + 1, target(9))
    assert not ctc.fits(384 * 13, target(9)), "two equal tokens need three frames"
