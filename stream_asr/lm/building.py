"""Texts in files to a language model in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from stream_asr.errors import InputError
from stream_asr.lm.estimate import estimate
from stream_asr.lm.files import save
from stream_asr.lm.lexicon import lexicon_of, read_dictionary
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.text import paragraphs, words_of
from stream_asr.replacing import is_one_of, replacing, writing


def build(
    texts: Sequence[Path],
    output: Path,
    *,
    order: int,
    cutoffs: str,
    words: Sequence[Path],
    english: bool,
    about: str = "",
    pronunciations: Path | None = None,
) -> NgramModel:
    """Make a model of some texts and write it.

    Args:
        texts: files, and folders of ``*.txt``.
        cutoffs: see `estimate`, with commas.
        words: files of more words.
        english: see `stream_asr.lm.text.paragraphs`.
        pronunciations: a pronouncing dictionary, see `stream_asr.lm.lexicon.read_dictionary`.

    Raises:
        InputError: a file cannot be read or written, or the settings are out of range; the dictionary is none, or
            knows none of the words.
        StreamASRError: there is no room for the model.
    """
    try:
        least = [int(number) for number in cutoffs.split(",")]
    except ValueError:
        raise InputError(f"cut-offs are {cutoffs!r}; they are whole numbers with commas between them: 1,1,2") from None
    texts, words = [*_files(texts)], [*words]
    sources = [*texts, *words, *([pronunciations] if pronunciations else [])]
    if is_one_of(output, sources):
        raise InputError(f"--output {output} is one of the files to read, which would be overwritten")
    more = [word for path in words for word in words_of(_read(path))]
    # Read before the texts, which take a while: a mistake in it is told at once.
    dictionary = read_dictionary(_read(pronunciations).splitlines(), str(pronunciations)) if pronunciations else None
    said = (words for path in texts for words in paragraphs(_read(path), english=english))
    model = estimate(said, order=order, cutoffs=least, extra_words=more, about=about)
    if dictionary is not None:
        ids = {word: model.id(word) for word in model.vocabulary}
        model = replace(model, lexicon=lexicon_of(dictionary, ids, english=english))
    with replacing(output) as file, writing(output):
        save(model, file)
    return model


def _files(texts: Iterable[Path]) -> Iterator[Path]:
    for path in texts:
        if not path.is_dir():
            yield path
        elif found := sorted(path.glob("*.txt")):
            yield from found
        else:
            raise InputError(f"the folder {path} holds no *.txt")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start})") from error
