"""Alphabets of models: the one that a checkpoint has, and new ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import Wav2Vec2CTCTokenizer

from stream_asr.acoustic.pretrained import Pretrained
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Alphabet, collected
from stream_asr.training.settings import FROM_TEXT

_BLANK, _SPACE = "<pad>", "|"


def alphabet_of(pretrained: Pretrained) -> Alphabet:
    """How texts are written for a model: letter by letter, or as its tokenizer divides words."""
    tokenizer = pretrained.tokenizer
    if getattr(tokenizer, "word_delimiter_token", None) is not None:
        return Alphabet(pretrained.labels)
    vocabulary = "".join(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    written = str.upper if vocabulary == vocabulary.upper() else str

    def pieces(text: str) -> list[int]:
        ids: list[int] = tokenizer(written(text), add_special_tokens=False).input_ids
        return ids

    return Alphabet(pretrained.labels, pieces)


def new_tokenizer(alphabet: str, texts: Iterable[str]) -> Any:
    """A tokenizer for a new output layer: the blank, the space, then the characters in order.

    Args:
        alphabet: the path of a file that holds the characters (spaces and line ends do not count), or `FROM_TEXT`
            for those of ``texts``.

    Raises:
        InputError: the file cannot be read, or what it holds is no alphabet.
    """
    characters = collected(texts) if alphabet == FROM_TEXT else _characters_in(Path(alphabet))
    if not characters:
        raise InputError(f"the alphabet {alphabet} has no characters")
    if _SPACE in characters:
        raise InputError(f"{_SPACE!r} cannot be part of an alphabet: it stands for the space in vocabularies")
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.json"
        tokens = (_BLANK, _SPACE, *characters)
        vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}), encoding="utf-8")
        return Wav2Vec2CTCTokenizer(str(vocabulary), unk_token=_BLANK, pad_token=_BLANK, bos_token=None, eos_token=None)


def _characters_in(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the alphabet {path}: {error}; name a text file that holds the characters, or {FROM_TEXT}"
        ) from error
    return "".join(sorted(set(text) - {" "} - set("\t\r\n")))
