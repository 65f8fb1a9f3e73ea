"""Alphabets of checkpoints, and tokenizers for new output layers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import Wav2Vec2CTCTokenizer

from stream_asr.acoustic.pretrained import Pretrained
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet, alphabet_characters
from stream_asr.training.settings import FROM_TEXT

_BLANK, _SPACE = "<pad>", "|"


def alphabet_of(pretrained: Pretrained) -> Alphabet:
    """Return the alphabet of a model, by character or by its subword tokenizer."""
    tokenizer = pretrained.tokenizer
    if getattr(tokenizer, "word_delimiter_token", None) is not None:
        return Alphabet(pretrained.labels)
    vocabulary = "".join(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    to_model_case = str.upper if vocabulary == vocabulary.upper() else str

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(to_model_case(text), add_special_tokens=False).input_ids
        return ids

    return Alphabet(pretrained.labels, tokenize)


def create_tokenizer(alphabet: str, texts: Iterable[str]) -> Any:
    """Create a character tokenizer for a new output layer: the blank, the space, then the characters, sorted.

    Args:
        alphabet: path of a file that contains the characters (spaces and line ends are ignored), or `FROM_TEXT` to
            collect them from ``texts``.

    Raises:
        InputError: the file cannot be read, or its content is not an alphabet.
    """
    characters = alphabet_characters(texts) if alphabet == FROM_TEXT else _read_characters(Path(alphabet))
    if not characters:
        raise InputError(f"the alphabet {alphabet} has no characters")
    if _SPACE in characters:
        raise InputError(f"{_SPACE!r} cannot be part of an alphabet: in vocabularies it stands for the space")
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.json"
        tokens = (_BLANK, _SPACE, *characters)
        vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(vocabulary), unk_token=_BLANK, pad_token=_BLANK, bos_token=None, eos_token=None)


def _read_characters(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the alphabet {path}: {error}; it must be a text file that contains the characters, or "
            f"{FROM_TEXT}"
        ) from error
    return "".join(sorted(set(text) - {" "} - set("\t\r\n")))
