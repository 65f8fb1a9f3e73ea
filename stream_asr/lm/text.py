"""From running text to words as a recognizer without capitals, digits and punctuation spells them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_TITLES = {"mr": "mister", "mrs": "missus", "messrs": "messieurs", "dr": "doctor", "st": "saint"}
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\b\.?", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,]*")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
_MOST_DIGITS = 12
"""Of a number that is read as one: below a thousand billion."""


def paragraphs(text: str, *, english: bool = True) -> Iterator[list[str]]:
    """The paragraphs of a text, words in lower case without punctuation.

    Not its sentences: a recognizer hears where speakers pause, and that is not where sentences end.

    Args:
        english: numbers and titles are spelt out and accents taken off; in other languages accents stay, and
            a number parts the text like the end of a paragraph.
    """
    text = text.replace("’", "'").replace("\r\n", "\n")
    if english:
        text = unaccented(text)
        text = _TITLE.sub(lambda title: _TITLES[title[1].lower()], text)
        text = _NUMBER.sub(lambda number: f" {spelt(number[0])} ", text)
    else:
        text = _NUMBER.sub("\n\n", text)
    for paragraph in _PARAGRAPH_END.split(text):
        if words := words_of(paragraph):
            yield words


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters, with apostrophes inside them, in lower case."""
    found = _WORD.findall(text.replace("’", "'").lower())
    return [word for word in found if word.replace("'", "").isalpha()]  # "½" is neither letter nor digit


def plain(letters: str) -> str:
    """A word as language models and hotwords have it, whatever capitals and punctuation the model writes."""
    if letters.isalpha() and letters.islower():
        return letters
    kept = (letter for letter in letters.lower().replace("’", "'") if letter.isalpha() or letter == "'")
    return "".join(kept).strip("'")


def unaccented(text: str) -> str:
    """The text without accents; letters that are no accented ones stay."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def spelt(digits: str) -> str:
    """A whole number in English words; "1945" is read as a year, "1,945" is not, and long ones digit by digit."""
    bare = digits.replace(",", "").lstrip("0") or "0"
    if len(bare) > _MOST_DIGITS:  # before it is made a number: Python refuses to read those of many thousand digits
        return " ".join(_SMALL[int(digit)] for digit in bare)
    number = int(bare)
    if 1100 <= number < 2000 and "," not in digits:
        century, years = divmod(number, 100)
        rest = "hundred" if not years else _cardinal(years) if years >= 10 else f"o {_SMALL[years]}"
        return f"{_cardinal(century)} {rest}"
    return _cardinal(number)


def _cardinal(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_SMALL[ones]}" if ones else "")
    size, name = next(scale for scale in _SCALES if number >= scale[0])
    many, rest = divmod(number, size)
    return f"{_cardinal(many)} {name}" + (f" {_cardinal(rest)}" if rest else "")
