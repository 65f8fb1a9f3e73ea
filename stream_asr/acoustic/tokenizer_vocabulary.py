"""Make the `Vocabulary` of an attention decoder from a Transformers tokenizer."""

from __future__ import annotations

import re
from typing import Any

from stream_asr.acoustic.base import Vocabulary
from stream_asr.errors import ModelError

_WORD_BOUNDARY = "\u2581"
"""SentencePiece's mark of a space."""

_BYTE = re.compile("<0x([0-9A-F]{2})>")
"""SentencePiece's tokens for the bytes of characters that it lacks."""

_CONTROL = re.compile(r"<\|.*\|>")
"""Whisper's tokens for languages, tasks and times. Transformers does not count all of them as special."""


def vocabulary_from_tokenizer(name: str, tokenizer: Any, outputs: int, end: int) -> Vocabulary:
    """Find the bytes of each token.

    Args:
        name: name of the model, for error messages.
        tokenizer: an ``AutoTokenizer`` with byte-level BPE or tokens in the manner of SentencePiece.
        outputs: number of the model's outputs. Those without a token get no text.
        end: index of the token that ends a hypothesis.

    Raises:
        ModelError: the tokenizer is of another type.
    """
    added = tokenizer.added_tokens_decoder
    special = set(tokenizer.all_special_ids) | {end}
    special |= {index for index, token in added.items() if token.special or _CONTROL.fullmatch(token.content)}
    learned = {index: token for token, index in tokenizer.get_vocab().items() if index not in added}
    learned = {index: token for index, token in learned.items() if index not in special}
    if any(_WORD_BOUNDARY in token for token in learned.values()):
        texts = {index: _sentencepiece_bytes(token) for index, token in learned.items()}
    elif learned and all(set(token) <= _BYTES_OF_CHARACTERS.keys() for token in learned.values()):
        texts = {index: bytes(map(_BYTES_OF_CHARACTERS.__getitem__, token)) for index, token in learned.items()}
    else:
        raise ModelError(
            f"{name!r} has a tokenizer of an unknown type ({type(tokenizer).__name__}); "
            "byte-level BPE and SentencePiece are supported"
        )
    texts |= {index: token.content.encode() for index, token in added.items() if index not in special}
    return Vocabulary(tuple(texts.get(index, b"") for index in range(outputs)), end)


def _sentencepiece_bytes(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_WORD_BOUNDARY, " ").encode()


def _bytes_of_characters() -> dict[str, int]:
    """Invert the mapping of byte-level BPE: visible Latin-1 characters stand for themselves, U+0100 on for the rest.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (the encoder of GPT-2).
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_BYTES_OF_CHARACTERS = _bytes_of_characters()
