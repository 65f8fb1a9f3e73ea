"""Texts in files to a language model in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stream_asr.atomic_files import is_one_of, replacing, writing
from stream_asr.errors import InputError
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.storage import save
from stream_asr.lm.text import paragraphs, words_of


def build(
    texts: Sequence[Path],
    output: Path,
    *,
    order: int,
    cutoffs: str,
    words: Sequence[Path],
    english: bool,
    about: str = "",
) -> NgramModel:
    """Make a model of some texts and write it.

    Args:
        texts: files, and folders of ``*.txt``.
        cutoffs: see `estimate`, with commas.
        words: files of more words.
        english: see `stream_asr.lm.text.paragraphs`.

    Raises:
        InputError: a file cannot be read or written, or the settings are out of range.
        StreamASRError: there is no room for the model.
    """
    try:
        least = [int(number) for number in cutoffs.split(",")]
    except ValueError:
        raise InputError(f"cut-offs are {cutoffs!r}; they are whole numbers with commas between them: 1,1,2") from None
    texts, words = [*_files(texts)], [*words]
    if is_one_of(output, [*texts, *words]):
        raise InputError(f"--output {output} is one of the files to read, which would be overwritten")
    more = [word for path in words for word in words_of(_read(path))]
    said = (words for path in texts for words in paragraphs(_read(path), english=english))
    model = estimate(said, order=order, cutoffs=least, extra_words=more, about=about)
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
