"""Models as they are taught: what a clip gives in a batch is what it gives alone, for every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError, ModelError
from stream_asr.training.acoustic import Batch, TrainableCTC, checkpoint_activations, freeze
from stream_asr.training.alphabet import TokenGraph, UnwritableError
from stream_asr.training.augment import Holes
from stream_asr.training.vocabulary import alphabet_of, new_tokenizer
from tests.support.checkpoints import (
    made_once,
    save_data2vec,
    save_hubert,
    save_moonshine_ctc,
    save_parakeet,
    save_wav2vec2_bert,
    save_wav2vec2_group,
    save_wav2vec2_layer,
    save_wavlm,
)

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES: dict[str, Callable[[Path], None]] = {
    "wav2vec2 group norm": save_wav2vec2_group,
    "wav2vec2 layer norm": save_wav2vec2_layer,
    "hubert": save_hubert,
    "wavlm": save_wavlm,
    "data2vec": save_data2vec,
    "wav2vec2-bert": save_wav2vec2_bert,
    "parakeet": save_parakeet,
    "moonshine": save_moonshine_ctc,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(tmp_path_factory, FAMILIES)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> TransformersCTC:
    return load_model(checkpoint(request.param), device="cpu", precision="float32")


@pytest.fixture
def clips(speech: FloatArray) -> list[tuple[FloatArray, TokenGraph]]:
    """Of four lengths that are no whole strides."""
    lengths = (9_001, 40_123, 25_000, 16_007)
    return [(speech[4_000 * place :][:length], said("good", place)) for place, length in enumerate(lengths, 1)]


def said(text: str, extra: int = 0) -> TokenGraph:
    return TokenGraph(text, (*range(5, 5 + extra), 7, 7), "")


def taught(runner: TransformersCTC, holes: Holes | None = None) -> TrainableCTC:
    return TrainableCTC(runner, holes or Holes(0, 0))


def log_probs(ctc: TrainableCTC, batch: Batch) -> list[FloatArray]:
    """Of each clip, without its padding."""
    found = []
    for part in batch.parts:
        with torch.no_grad():
            logits: Tensor = ctc.model(**part.inputs).logits
        found += [row[:frames] for row, frames in zip(logits.log_softmax(-1).numpy(), part.frames, strict=True)]
    return found


def test_a_clip_in_a_batch_gives_what_it_gives_the_recognizer(
    family: TransformersCTC, clips: list[tuple[FloatArray, TokenGraph]]
) -> None:
    ctc = taught(family)
    batch = ctc.batch(clips, None)
    assert batch.seconds == pytest.approx(sum(len(samples) for samples, _ in clips) / 16_000)
    for (samples, _), together in zip(clips, log_probs(ctc, batch), strict=True):
        filled = np.pad(samples, (0, -len(samples) % family.frame_samples))
        (alone,) = family.log_probs([filled])
        assert together.shape == alone.shape == (ctc.frames(len(samples)), len(family.labels.tokens))
        np.testing.assert_allclose(together, alone, atol=1e-3)


def test_the_loss_of_a_batch_is_that_of_its_clips(
    family: TransformersCTC, clips: list[tuple[FloatArray, TokenGraph]]
) -> None:
    ctc = taught(family)
    alone = [float(ctc.loss(ctc.batch([clip], None)).detach()) for clip in clips]
    sizes = [len(spelling.ids) for _, spelling in clips]
    expected = sum(loss * size for loss, size in zip(alone, sizes, strict=True)) / sum(sizes)
    assert float(ctc.loss(ctc.batch(clips, None)).detach()) == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_that_of_transformers(checkpoint: Callable[[str], Path], speech: FloatArray) -> None:
    runner = load_model(checkpoint("wav2vec2 layer norm"), device="cpu")
    ctc = taught(runner)
    runner.model.config.ctc_loss_reduction = "mean"
    clip = (speech[:32_000], TokenGraph("", (5, 9, 9, 12), ""))
    (part,) = ctc.batch([clip], None).parts
    expected = runner.model(**part.inputs, labels=torch.tensor([[5, 9, 9, 12]])).loss
    torch.testing.assert_close(ctc.loss(ctc.batch([clip], None)), expected)


def test_every_weight_that_is_not_frozen_learns(
    family: TransformersCTC, clips: list[tuple[FloatArray, TokenGraph]]
) -> None:
    ctc = taught(family)
    freeze(ctc.model, feature_encoder=True, layers=0)
    ctc.loss(ctc.batch(clips, None)).backward()
    learning = [(name, weight) for name, weight in ctc.model.named_parameters() if weight.requires_grad]
    assert learning
    for name, weight in learning:
        # SpecAugment is off, so nothing is masked.
        if "masked_spec_embed" not in name:
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all(), name


def test_the_feature_encoder_stays_as_it_is(checkpoint: Callable[[str], Path]) -> None:
    model = load_pretrained(checkpoint("wav2vec2 group norm")).model
    freeze(model, feature_encoder=True, layers=0)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert frozen
    assert all(name.startswith("wav2vec2.feature_extractor.") for name in frozen)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "parakeet"])
def test_the_lowest_layers_stay_as_they_are(name: str, checkpoint: Callable[[str], Path]) -> None:
    model = load_pretrained(checkpoint(name)).model
    freeze(model, feature_encoder=True, layers=1)
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any("encoder.layers.1." in name for name in learning)
    assert any(name.startswith(("lm_head.", "ctc_head.")) for name in learning)
    assert all(
        "encoder.layers.1." in name or "encoder.layer_norm." in name or name.startswith(("lm_head.", "ctc_head."))
        for name in learning
    )
    with pytest.raises(InputError, match="3 layers to freeze; the encoder has 2"):
        freeze(model, feature_encoder=True, layers=3)


def test_activations_calculated_again_give_the_same_gradients(
    family: TransformersCTC, clips: list[tuple[FloatArray, TokenGraph]]
) -> None:
    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        np.random.seed(0)
        ctc.model.train()
        ctc.model.zero_grad()
        ctc.loss(batch).backward()
        return [weight.grad.clone() for weight in ctc.model.parameters() if weight.grad is not None]

    ctc = taught(family)
    freeze(ctc.model, feature_encoder=True, layers=0)
    batch = ctc.batch(clips, None)
    expected = gradients()
    checkpoint_activations(ctc.model)
    for one, other in zip(expected, gradients(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_made_without_holes_can_get_some(
    checkpoint: Callable[[str], Path], speech: FloatArray, tmp_path: Path
) -> None:
    pretrained = load_pretrained(checkpoint("wav2vec2 layer norm"))
    del pretrained.model.wav2vec2.masked_spec_embed
    pretrained.model.config.mask_time_prob = 0.0
    for part in (pretrained.model, pretrained.feature_extractor, pretrained.tokenizer):
        part.save_pretrained(tmp_path)
    runner = load_model(tmp_path, device="cpu")
    assert not hasattr(runner.model.wav2vec2, "masked_spec_embed")
    ctc = taught(runner, Holes(0.3, 0.0))
    ctc.model.train()
    ctc.loss(ctc.batch([(speech[:32_000], said("good"))], np.random.default_rng(0))).backward()
    assert runner.model.wav2vec2.masked_spec_embed.grad.abs().sum() > 0


def test_batch_normalisation_keeps_its_statistics(checkpoint: Callable[[str], Path], speech: FloatArray) -> None:
    ctc = taught(load_model(checkpoint("parakeet"), device="cpu"))
    before = {name: buffer.clone() for name, buffer in ctc.model.named_buffers() if "running" in name}
    assert before
    ctc.model.train()
    ctc.loss(ctc.batch([(speech[:32_000], said("good"))], None))
    for name, buffer in ctc.model.named_buffers():
        assert name not in before or torch.equal(buffer, before[name])


def test_short_clips_can_be_taught_with_holes(family: TransformersCTC, speech: FloatArray) -> None:
    """Transformers refuses holes longer than the clip, so such a clip is filled up."""
    ctc = taught(family, Holes(0.3, 0.3))
    ctc.model.train()
    short = (speech[8_000:8_400], TokenGraph("", (7,), ""))
    loss = ctc.loss(ctc.batch([short], np.random.default_rng(0)))
    assert loss.isfinite()
    assert loss > 0


def test_holes_are_made_in_training_only(family: TransformersCTC, clips: list[tuple[FloatArray, TokenGraph]]) -> None:
    def losses(holes: Holes, rng: np.random.Generator | None, train: bool) -> set[float]:
        ctc = taught(family, holes)
        ctc.model.train(train)
        for module in ctc.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        ctc.model.config.layerdrop = 0.0
        return {float(ctc.loss(ctc.batch(clips, rng)).detach()) for _ in range(4)}

    assert len(losses(Holes(0.3, 0.3), np.random.default_rng(0), train=True)) == 4
    assert len(losses(Holes(0.3, 0.3), None, train=False)) == 1


def test_what_fits(checkpoint: Callable[[str], Path]) -> None:
    ctc = taught(load_model(checkpoint("moonshine"), device="cpu", precision="float32"))
    assert ctc.frames(384 * 20) == 18
    assert ctc.fits(384 * 13 + 1, said("yes", 9))
    assert not ctc.fits(384 * 13, said("yes", 9)), "two letters that are the same take three frames"


# --- vocabularies -----------------------------------------------------------------------------------------


def test_texts_of_a_model_with_capitals(checkpoint: Callable[[str], Path]) -> None:
    pretrained = load_pretrained(checkpoint("wav2vec2 group norm"))
    spelling = alphabet_of(pretrained).spell("Don't stop.")
    assert spelling.text == "don't stop"
    assert list(spelling.ids) == pretrained.tokenizer("DON'T STOP").input_ids


def test_texts_of_a_model_with_pieces_of_words(checkpoint: Callable[[str], Path]) -> None:
    pretrained = load_pretrained(checkpoint("parakeet"))
    alphabet = alphabet_of(pretrained)
    spelling = alphabet.spell("Son's nod!")
    assert list(spelling.ids) == pretrained.tokenizer("son's nod", add_special_tokens=False).input_ids
    assert "".join(pretrained.labels.tokens[index] for index in spelling.ids) == " son's nod"
    with pytest.raises(UnwritableError, match=r"^z$"):
        alphabet.spell("zoos")
    # Its letters are parts of pieces, but there is no piece for the first of them alone.
    with pytest.raises(UnwritableError, match=r"^hog$"):
        alphabet.spell("hog")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_new_alphabet_gets_a_new_output_layer(name: str, checkpoint: Callable[[str], Path]) -> None:
    old = load_pretrained(checkpoint(name))
    tokenizer = new_tokenizer("from-text", ["Änne sagt: ja!", "nö"])
    new = load_pretrained(checkpoint(name), tokenizer=tokenizer)
    assert new.labels.tokens == ("", " ", *"aegjnstäö")
    assert new.labels.blank == 0
    shapes = {key: weight.shape for key, weight in new.model.state_dict().items()}
    changed = [
        key
        for key, weight in old.model.state_dict().items()
        if shapes[key] != weight.shape or not torch.equal(weight, new.model.state_dict()[key])
    ]
    assert changed
    assert all(key.startswith(("lm_head.", "ctc_head.")) or key.endswith("masked_spec_embed") for key in changed)


def test_a_new_alphabet_of_the_old_size_is_new_all_the_same(checkpoint: Callable[[str], Path]) -> None:
    old = load_pretrained(checkpoint("moonshine"))
    tokenizer = new_tokenizer("from-text", ["".join(chr(0x3B1 + place) for place in range(len(old.labels.tokens) - 2))])
    new = load_pretrained(checkpoint("moonshine"), tokenizer=tokenizer)
    assert len(new.labels.tokens) == len(old.labels.tokens)
    assert not torch.equal(old.model.ctc_head.weight, new.model.ctc_head.weight)


def test_an_encoder_without_a_head_needs_an_alphabet(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """As the checkpoints that pre-training leaves behind: no output layer, no tokenizer."""
    pretrained = load_pretrained(checkpoint("wav2vec2 layer norm"))
    pretrained.model.wav2vec2.save_pretrained(tmp_path)
    pretrained.feature_extractor.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is no trained CTC model: lm_head"):
        load_pretrained(tmp_path)
    new = load_pretrained(tmp_path, tokenizer=new_tokenizer("from-text", ["ja nein"]))
    assert new.labels.tokens == ("", " ", *"aeijn")


def test_an_alphabet_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text("a b c\nA B, C\n", encoding="utf-8")
    assert new_tokenizer(str(path), []).get_vocab() == {
        token: index for index, token in enumerate(["<pad>", "|", *",ABCabc"])
    }


@pytest.mark.parametrize(("content", "message"), [(" \n", "has no characters"), ("ab|", "cannot be part of")])
def test_a_file_that_is_no_alphabet(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        new_tokenizer(str(path), [])
    with pytest.raises(InputError, match=r"cannot read the alphabet .*nowhere.txt"):
        new_tokenizer(str(tmp_path / "nowhere.txt"), [])
