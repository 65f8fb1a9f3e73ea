"""Build a language model: read files of text, estimate a model, and write it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stream_asr.atomic_files import convert_os_errors, is_one_of, replace_file
from stream_asr.errors import InputError
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.storage import save
from stream_asr.lm.text import split_paragraphs, split_words


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
    """Estimate a model from files of text and write it.

    Args:
        texts: files, and folders of ``*.txt``.
        output: the file to write.
        order: number of words in the longest n-grams; see `estimate`.
        cutoffs: whole numbers separated by commas; see `estimate`.
        words: files of additional words for the vocabulary.
        english: whether the text is English; see `split_paragraphs`.
        about: a description of the text, for people.

    Raises:
        InputError: a file cannot be read or written, or a setting is out of range.
        StreamASRError: there is not enough space for the model.
    """
    try:
        min_counts = [int(number) for number in cutoffs.split(",")]
    except ValueError:
        raise InputError(f"cutoffs are {cutoffs!r}; give whole numbers separated by commas: 1,1,2") from None
    texts, words = [*_find_files(texts)], [*words]
    if is_one_of(output, [*texts, *words]):
        raise InputError(f"--output {output} is one of the input files, which would be overwritten")
    extra_words = [word for path in words for word in split_words(_read(path))]
    paragraphs = (paragraph for path in texts for paragraph in split_paragraphs(_read(path), english=english))
    model = estimate(paragraphs, order=order, cutoffs=min_counts, extra_words=extra_words, about=about)
    with replace_file(output) as file, convert_os_errors(output):
        save(model, file)
    return model


def _find_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
        elif files := sorted(path.glob("*.txt")):
            yield from files
        else:
            raise InputError(f"the folder {path} has no *.txt files")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
