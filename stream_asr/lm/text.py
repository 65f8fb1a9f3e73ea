"""Convert running text to words as a recognizer spells them: lower case, without digits and punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

APOSTROPHES = "'’ʼ‘`´"
"""Characters that texts use as apostrophes."""

SPOKEN_PUNCTUATION = "%&@#§‰"
"""Characters that are spoken as words although Unicode classifies them as punctuation."""

_TITLES = {"mr": "mister", "mrs": "missus", "messrs": "messieurs", "dr": "doctor", "st": "saint"}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\b\.?", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,]*")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")

_BELOW_TWENTY = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_MAX_NUMBER_DIGITS = 12
"""The names of numbers end below a thousand billion."""


def split_paragraphs(text: str, *, english: bool = True) -> Iterator[list[str]]:
    """Split a text into paragraphs, each a list of normalized words.

    Paragraphs rather than sentences: a recognizer sees where speakers pause, which is not where sentences end.

    Args:
        text: running text with empty lines between paragraphs.
        english: whether to spell out numbers and titles and to remove accents. In other languages accents stay, and
            a number ends the paragraph.
    """
    text = text.replace("’", "'").replace("\r\n", "\n")
    if english:
        text = strip_accents(text)
        text = _TITLE.sub(lambda title: _TITLES[title[1].lower()], text)
        text = _NUMBER.sub(lambda number: f" {spell_number(number[0])} ", text)
    else:
        text = _NUMBER.sub("\n\n", text)
    for paragraph in _PARAGRAPH_END.split(text):
        if words := split_words(paragraph):
            yield words


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters, with apostrophes inside."""
    words = _WORD.findall(text.replace("’", "'").lower())
    return [word for word in words if word.replace("'", "").isalpha()]  # "½" is neither a letter nor a digit


def normalize_word(word: str) -> str:
    """Return a word as language models and hotwords have it: lower case, letters and inner apostrophes only."""
    if word.isalpha() and word.islower():
        return word
    kept = (character for character in word.lower().replace("’", "'") if character.isalpha() or character == "'")
    return "".join(kept).strip("'")


def strip_accents(text: str) -> str:
    """Remove accents; letters that have no form without an accent stay."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def spell_number(digits: str) -> str:
    """Spell a whole number in English words.

    "1945" is read as a year, "1,945" as a quantity. Very long numbers are read digit by digit.
    """
    bare = digits.replace(",", "").lstrip("0") or "0"
    if len(bare) > _MAX_NUMBER_DIGITS:  # checked before int(), which refuses thousands of digits
        return " ".join(_BELOW_TWENTY[int(digit)] for digit in bare)
    number = int(bare)
    if 1100 <= number < 2000 and "," not in digits:
        century, year = divmod(number, 100)
        rest = "hundred" if not year else _spell_cardinal(year) if year >= 10 else f"o {_BELOW_TWENTY[year]}"
        return f"{_spell_cardinal(century)} {rest}"
    return _spell_cardinal(number)


def _spell_cardinal(number: int) -> str:
    if number < 20:
        return _BELOW_TWENTY[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_BELOW_TWENTY[ones]}" if ones else "")
    size, name = next(scale for scale in _SCALES if number >= scale[0])
    count, rest = divmod(number, size)
    return f"{_spell_cardinal(count)} {name}" + (f" {_spell_cardinal(rest)}" if rest else "")
