"""The subword tokenizer of the model.

A word has fewer subword tokens than letters, so there are fewer outputs that can be wrong.

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
class SubwordTokenizer:
    """A tokenizer in the three forms that the recipe needs. Token 0 is the blank.

    Attributes:
        labels: text of each token.
        alphabet: converts texts to token ids.
        tokenizer: the tokenizer for Transformers.
    """

    labels: Labels
    alphabet: Alphabet
    tokenizer: Any


def load_tokenizer(path: Path) -> SubwordTokenizer:
    """Load a tokenizer that `train_tokenizer` returned and that was saved to a file."""
    # The subword tokenizer of Transformers that decodes CTC outputs, repetitions and blanks included.
    tokenizer: Any = ParakeetTokenizer(tokenizer_file=str(path), pad_token=_BLANK)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    labels = Labels(("", *(token.replace(_SPACE, " ") for token in tokens[1:])), blank=0)

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        return ids

    return SubwordTokenizer(labels, Alphabet(labels, tokenize), tokenizer)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """Train a byte-pair encoding.

    Args:
        texts: words in lower case, separated by single spaces.
        vocabulary_size: number of tokens, single letters included, without the blank.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size + 1,
        special_tokens=[_BLANK],
        initial_alphabet=[_SPACE, *_LETTERS],
        limit_alphabet=1 + len(_LETTERS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
