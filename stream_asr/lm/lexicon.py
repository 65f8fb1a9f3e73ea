"""How words sound: their pronunciations in order, so that those that begin alike stand side by side.

Source: the format of dictionaries is that of CMUdict, the Carnegie Mellon Pronouncing Dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stream_asr.errors import InputError

Dictionary: TypeAlias = "dict[str, tuple[tuple[str, ...], ...]]"
"""By word, in lower case, its pronunciations: names of sounds, without their stress."""

MOST_PHONES = 255
"""A sound is one byte, and one byte value is left to stand between pronunciations in a file."""

_VARIANT = re.compile(r"\(\d+\)$")
_PHONE = re.compile(r"([A-Z]+)[0-2]?")
_A_LINE = "a line is a word and its sounds in capitals, as in 'tomato  T AH0 M EY1 T OW2'"
_SHOWN = 60
"""Characters of a bad line that a message shows."""

_VOICELESS = frozenset(("P", "T", "K", "F", "TH"))
_HISSING = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))


@dataclass(frozen=True, slots=True, eq=False)
class Lexicon:
    """How words sound.

    Attributes:
        phones: names of the sounds, in alphabetical order; a pronunciation is a string of their places in here.
        pronunciations: in ascending order of bytes; the same one may stand there several times, for words that
            sound alike.
        words: id in the language model's vocabulary of the word of each one, uint16, shape (pronunciations,).
    """

    phones: tuple[str, ...]
    pronunciations: tuple[bytes, ...]
    words: npt.NDArray[np.uint16]
    _places: npt.NDArray[np.intp] = field(init=False, repr=False)
    _starts: npt.NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Arrays rather than a dictionary of tuples: a model is loaded whenever the program starts.
        starts = np.append(0, np.cumsum(np.bincount(self.words)))
        object.__setattr__(self, "_places", np.argsort(self.words, kind="stable"))
        object.__setattr__(self, "_starts", starts.astype(np.intp))

    @property
    def spoken(self) -> int:
        """How many words have a pronunciation."""
        return int(np.count_nonzero(np.diff(self._starts)))

    def of(self, word: int) -> tuple[bytes, ...]:
        """The pronunciations of the word with this id, in ascending order; () if it has none."""
        if not 0 <= word < len(self._starts) - 1:
            return ()
        places = self._places[self._starts[word] : self._starts[word + 1]]
        return tuple(self.pronunciations[place] for place in places.tolist())


def read_dictionary(lines: Iterable[str], name: str) -> Dictionary:
    """The words of a pronouncing dictionary.

    ``word  P R AH0 N``, in capitals or not, and ``word(2)`` for another pronunciation of it. Lines that begin with
    ``;;;`` and what follows a ``#`` are comments.

    Args:
        name: of the file, for messages.

    Raises:
        InputError: a line is no such line, or there is none, or there are more than `MOST_PHONES` sounds.
    """
    found: dict[str, dict[tuple[str, ...], None]] = {}
    for number, line in enumerate(lines, 1):
        parts = list(takewhile(lambda part: not part.startswith("#"), line.split()))
        if not parts or parts[0].startswith(";;;"):
            continue
        word, *sounds = parts
        phones = [match[1] for sound in sounds if (match := _PHONE.fullmatch(sound))]
        if not phones or len(phones) < len(sounds):
            raise InputError(f"{name}, line {number}: {line.strip()[:_SHOWN]!r} says no pronunciation; {_A_LINE}")
        found.setdefault(_VARIANT.sub("", word).lower(), {})[tuple(phones)] = None
    if not found:
        raise InputError(f"{name} has no pronunciations; {_A_LINE}")
    if (count := len(phones_of(found))) > MOST_PHONES:
        raise InputError(f"{name} has {count} different sounds, and {MOST_PHONES} at most can be kept; {_A_LINE}")
    return {word: tuple(pronunciations) for word, pronunciations in found.items()}


def lexicon_of(dictionary: Dictionary, ids: Mapping[str, int], *, english: bool = True) -> Lexicon:
    """How the words of a vocabulary sound; those that the dictionary does not know have no pronunciation.

    Args:
        ids: of the words in the language model, in lower case.
        english: a word in 's that the dictionary does not know sounds like the rest and S, Z or IH Z, where it has
            these sounds.

    Raises:
        InputError: the dictionary knows none of them.
    """
    phones = phones_of(dictionary)
    places = {phone: place for place, phone in enumerate(phones)}
    said = sorted(
        (bytes(places[phone] for phone in sounds), number)
        for word, number in ids.items()
        for sounds in dictionary.get(word) or (_possessives(dictionary, word) if english else ())
        if all(phone in places for phone in sounds)
    )
    if not said:
        raise InputError(
            "the pronouncing dictionary knows none of the language model's words; is it of their language?"
        )
    return Lexicon(
        phones, tuple(sounds for sounds, _ in said), np.fromiter((number for _, number in said), dtype=np.uint16)
    )


def phones_of(dictionary: Mapping[str, Iterable[tuple[str, ...]]]) -> tuple[str, ...]:
    """Names of its sounds, in alphabetical order."""
    return tuple(sorted({phone for ways in dictionary.values() for sounds in ways for phone in sounds}))


def _possessives(dictionary: Dictionary, word: str) -> list[tuple[str, ...]]:
    if not word.endswith("'s"):
        return []
    return [(*sounds, *_possessive(sounds[-1])) for sounds in dictionary.get(word[:-2], ())]


def _possessive(last: str) -> tuple[str, ...]:
    """How the English 's sounds after a sound."""
    if last in _HISSING:
        return ("IH", "Z")
    return ("S",) if last in _VOICELESS else ("Z",)
