"""Alphabets of checkpoints, and new output layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.errors import InputError, ModelError
from stream_asr.training.alphabet import OutOfAlphabetError
from stream_asr.training.vocabulary import alphabet_of, create_tokenizer
from tests.support.checkpoints import cached_checkpoints
from tests.support.training import MODEL_FAMILIES

HEADS = ("lm_head.", "ctc_head.")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return cached_checkpoints(tmp_path_factory, MODEL_FAMILIES)


def test_alphabet_of_an_upper_case_model(checkpoint: Callable[[str], Path]) -> None:
    pretrained = load_pretrained(checkpoint("wav2vec2 group norm"))
    target = alphabet_of(pretrained).encode("Don't stop.")
    assert target.text == "don't stop"
    assert list(target.ids) == pretrained.tokenizer("DON'T STOP").input_ids


def test_alphabet_of_a_subword_model(checkpoint: Callable[[str], Path]) -> None:
    pretrained = load_pretrained(checkpoint("parakeet"))
    alphabet = alphabet_of(pretrained)
    target = alphabet.encode("Son's nod!")
    assert list(target.ids) == pretrained.tokenizer("son's nod", add_special_tokens=False).input_ids
    assert "".join(pretrained.labels.tokens[index] for index in target.ids) == " son's nod"
    with pytest.raises(OutOfAlphabetError, match=r"cannot write z$"):
        alphabet.encode("zoos")
    # Its letters occur in tokens, but no token is a single "h".
    with pytest.raises(OutOfAlphabetError, match=r"cannot write hog$"):
        alphabet.encode("hog")


@pytest.mark.parametrize("name", MODEL_FAMILIES)
def test_new_alphabet_replaces_only_the_output_layer(name: str, checkpoint: Callable[[str], Path]) -> None:
    old = load_pretrained(checkpoint(name))
    tokenizer = create_tokenizer("from-text", ["Änne sagt: ja!", "nö"])
    new = load_pretrained(checkpoint(name), tokenizer=tokenizer)
    assert new.labels.tokens == ("", " ", *"aegjnstäö")
    assert new.labels.blank == 0
    weights = new.model.state_dict()
    changed = [
        key
        for key, weight in old.model.state_dict().items()
        if weights[key].shape != weight.shape or not torch.equal(weight, weights[key])
    ]
    assert changed
    assert all(key.startswith(HEADS) or key.endswith("masked_spec_embed") for key in changed)


def test_new_alphabet_of_the_same_size_gets_a_new_output_layer(checkpoint: Callable[[str], Path]) -> None:
    old = load_pretrained(checkpoint("moonshine"))
    greek = "".join(chr(0x3B1 + index) for index in range(len(old.labels.tokens) - 2))
    new = load_pretrained(checkpoint("moonshine"), tokenizer=create_tokenizer("from-text", [greek]))
    assert len(new.labels.tokens) == len(old.labels.tokens)
    assert not torch.equal(old.model.ctc_head.weight, new.model.ctc_head.weight)


def test_pretrained_encoder_without_output_layer_needs_an_alphabet(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    pretrained = load_pretrained(checkpoint("wav2vec2 layer norm"))
    pretrained.model.wav2vec2.save_pretrained(tmp_path)
    pretrained.feature_extractor.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="lm_head"):
        load_pretrained(tmp_path)
    new = load_pretrained(tmp_path, tokenizer=create_tokenizer("from-text", ["ja nein"]))
    assert new.labels.tokens == ("", " ", *"aeijn")


def test_alphabet_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text("a b c\nA B, C\n", encoding="utf-8")
    assert create_tokenizer(str(path), []).get_vocab() == {
        token: index for index, token in enumerate(["<pad>", "|", *",ABCabc"])
    }


@pytest.mark.parametrize(("content", "message"), [(" \n", "has no characters"), ("ab|", "cannot be part of")])
def test_invalid_alphabet_file_is_rejected(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "alphabet.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        create_tokenizer(str(path), [])


def test_missing_alphabet_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the alphabet .*missing.txt"):
        create_tokenizer(str(tmp_path / "missing.txt"), [])
