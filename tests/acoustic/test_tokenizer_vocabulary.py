"""The bytes of tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from stream_asr.acoustic.tokenizer_vocabulary import vocabulary_from_tokenizer
from stream_asr.errors import ModelError
from tests.support.seq2seq import SENTENCES, byte_level_tokenizer, sentencepiece_tokenizer

TOKENIZERS: dict[str, Any] = {
    "byte-level": byte_level_tokenizer(("<|end|>", "<|start|>"), ("<|0.00|>", "okay")),
    "sentencepiece": sentencepiece_tokenizer(),
}
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=40)
SPOKEN = st.lists(st.sampled_from([word for text in SENTENCES for word in text.split()]), max_size=8).map(" ".join)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=TEXTS | SPOKEN)
def test_text_of_tokens_equals_the_decoder_of_the_tokenizer(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    vocabulary = vocabulary_from_tokenizer(name, tokenizer, len(tokenizer), tokenizer.eos_token_id)
    tokens = tokenizer.encode(text, add_special_tokens=False)
    written = vocabulary.text(tokens)
    decoded = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    assert written.removeprefix(" ") == decoded.removeprefix(" ")
    assert written.removeprefix(" ") == text.removeprefix(" ")


def test_special_tokens_and_unused_outputs_have_no_text() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.get_vocab()
    vocabulary = vocabulary_from_tokenizer("x", tokenizer, len(ids) + 2, ids["<|end|>"])
    assert vocabulary.end == ids["<|end|>"]
    assert len(vocabulary.pieces) == len(ids) + 2
    empty = {index for index, piece in enumerate(vocabulary.pieces) if not piece}
    assert empty == {ids["<|end|>"], ids["<|start|>"], ids["<|0.00|>"], len(ids), len(ids) + 1}


def test_added_word_has_its_own_text() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    vocabulary = vocabulary_from_tokenizer("x", tokenizer, len(tokenizer), 0)
    assert vocabulary.pieces[tokenizer.get_vocab()["okay"]] == b"okay"


def test_incomplete_character_is_replaced() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    vocabulary = vocabulary_from_tokenizer("x", tokenizer, len(tokenizer), 2)
    tokens = tokenizer.encode("京", add_special_tokens=False)
    assert vocabulary.text(tokens) == " 京"
    assert vocabulary.text(tokens[:-1]) == " \ufffd"


@pytest.mark.parametrize("tokens", [["<unk>"], ["<unk>", "the", "##re", "é ü"]], ids=["no tokens", "WordPiece"])
def test_unknown_type_of_tokenizer_is_refused(tokens: list[str]) -> None:
    model = models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="<unk>")
    with pytest.raises(ModelError, match=r"'x' has a tokenizer of an unknown type .* SentencePiece are supported"):
        vocabulary_from_tokenizer("x", tokenizer, len(tokens), 0)
