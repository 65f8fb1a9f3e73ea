"""Make `Labels` of a tokenizer's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Set

from stream_asr.acoustic.labels import Labels
from stream_asr.errors import ModelError

_WORD_BOUNDARY = "\u2581"
"""SentencePiece's mark of a space."""


def labels_from_vocabulary(
    name: str, outputs: int, vocabulary: Mapping[str, int], special: Set[str], blank: int | None, delimiter: str | None
) -> Labels:
    """Make the labels of a model, with a space where a word begins.

    Args:
        name: name of the model, for error messages.
        outputs: number of the model's outputs.
        vocabulary: index of each token.
        special: tokens without text.
        blank: index of the CTC blank.
        delimiter: the token that stands for a space, in a vocabulary of characters.

    Raises:
        ModelError: the blank is missing or out of range, or no token has letters.
    """
    if blank is None or not 0 <= blank < outputs:
        raise ModelError(f"{name!r} does not say which of its outputs is the CTC blank (pad_token_id)")
    tokens = [""] * outputs
    for token, index in vocabulary.items():
        if index < outputs and index != blank:
            if token == delimiter:
                tokens[index] = " "
            elif token not in special:
                tokens[index] = token.replace(_WORD_BOUNDARY, " ")
    letters = "".join(tokens)
    if not letters.strip():
        raise ModelError(f"{name!r} has a tokenizer without letters")
    # In a model without small letters, capitals carry no information.
    uppercase = letters == letters.upper() != letters.lower()
    return Labels(tuple(token.lower() if uppercase else token for token in tokens), blank, uppercase)
