"""Encoding of text for attention decoders."""

from __future__ import annotations

import pytest

from stream_asr.acoustic.base import Vocabulary
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.moonshine.decoder_checkpoint import read_decoder
from stream_asr.decoding.token_encoding import TokenEncoder, UnknownCharacterError

BYTES = tuple(bytes([value]) for value in range(256))
PIECES = (b"", b"", *BYTES, b"an", b" b", b" ban", b"ana", b" a", b" ", b"a", b"b", b"n")


def encode(text: str, pieces: tuple[bytes, ...] = PIECES) -> list[bytes]:
    vocabulary = Vocabulary(pieces, 1)
    return [vocabulary.pieces[token] for token in TokenEncoder(vocabulary).encode(text)]


def test_pairs_are_merged_in_the_order_of_their_ids() -> None:
    assert encode(" banana") == [b" ban", b"ana"]
    assert encode(" bana an") == [b" ban", b"a", b" ", b"an"]


def test_letters_are_preferred_to_bytes() -> None:
    assert TokenEncoder(Vocabulary(PIECES, 1)).encode("a") == (PIECES.index(b" a") + 2,)


def test_characters_without_a_token_become_bytes() -> None:
    assert encode("né") == [b"n", b"\xc3", b"\xa9"]


def test_character_that_cannot_be_written_is_an_error() -> None:
    with pytest.raises(UnknownCharacterError, match="'é'"):
        encode("é", (b"", b"e"))


def test_text_of_the_bundled_decoder_is_encoded_as_it_writes_it() -> None:
    checkpoint = read_decoder(EMBEDDED_FOLDER, "embedded-en")
    assert checkpoint is not None
    vocabulary, text = checkpoint.vocabulary, " Isn't it 8 o'clock, naïve Zoë? 日本"
    tokens = TokenEncoder(vocabulary).encode(text)
    assert vocabulary.text(tokens) == text
    assert [vocabulary.pieces[token] for token in tokens[:4]] == [b" Isn", b"'", b"t", b" it"]
