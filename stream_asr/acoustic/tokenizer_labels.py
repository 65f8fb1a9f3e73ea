"""From a tokenizer's vocabulary to what a model's outputs spell."""

from __future__ import annotations

from collections.abc import Mapping, Set

from stream_asr.acoustic.labels import Labels
from stream_asr.errors import ModelError


def labels_of(
    name: str, outputs: int, vocabulary: Mapping[str, int], special: Set[str], blank: int | None, delimiter: str | None
) -> Labels:
    """What each output spells, with spaces where words begin.

    Args:
        name: of the model, for messages.
        outputs: of the model.
        vocabulary: each token's output.
        special: tokens that spell nothing.
        blank: CTC's output for nothing.
        delimiter: the token that stands for a space, in alphabets of letters.

    Raises:
        ModelError: there is no blank, or there are no letters.
    """
    if blank is None or not 0 <= blank < outputs:
        raise ModelError(f"{name!r} does not say which of its outputs is the CTC blank (pad_token_id)")
    pieces = [""] * outputs
    for token, index in vocabulary.items():
        if index < outputs and index != blank:
            if token == delimiter:
                pieces[index] = " "
            elif token not in special:
                pieces[index] = token.replace("\u2581", " ")  # SentencePiece's mark for a space
    letters = "".join(pieces)
    if not letters.strip():
        raise ModelError(f"{name!r} has a tokenizer without letters")
    # A model that knows capitals only says nothing by them.
    capitals = letters == letters.upper() != letters.lower()
    return Labels(tuple(piece.lower() if capitals else piece for piece in pieces), blank, capitals)
