"""What a model's outputs spell: pieces of words. A word has fewer of them than letters, so fewer that can go wrong.

Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016 (byte-pair encoding).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ParakeetTokenizer

from stream_asr.acoustic.labels import Labels
from stream_asr.training.alphabet import Alphabet

_BLANK, _SPACE, _LETTERS = "<pad>", "\u2581", "'abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Units:
    """The outputs of a model; the blank is the first.

    Attributes:
        labels: what they spell.
        alphabet: writes texts in them.
        tokenizer: the same for Transformers.
    """

    labels: Labels
    alphabet: Alphabet
    tokenizer: Any


def pieces(path: Path) -> Units:
    """Those that `learn_pieces` found and saved to a file."""
    # Of Transformers' tokenizers with pieces, the one that reads CTC's outputs back by CTC's rule.
    tokenizer: Any = ParakeetTokenizer(tokenizer_file=str(path), pad_token=_BLANK)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    labels = Labels(("", *(token.replace(_SPACE, " ") for token in tokens[1:])), blank=0)

    def divided(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    return Units(labels, Alphabet(labels, divided), tokenizer)


def learn_pieces(texts: Iterable[str], count: int) -> Tokenizer:
    """The pieces that shorten the texts most.

    Args:
        texts: words in lower case, a space between them.
        count: of pieces, single letters included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=count + 1,
        special_tokens=[_BLANK],
        initial_alphabet=[_SPACE, *_LETTERS],
        limit_alphabet=1 + len(_LETTERS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
