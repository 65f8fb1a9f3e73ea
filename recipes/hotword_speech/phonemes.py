"""Phonemes of English text in the alphabet of Kokoro, from espeak-ng."""

from __future__ import annotations

import unicodedata
from importlib import import_module
from typing import Any

from stream_asr.errors import InputError

_SHARED = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "e^ɪ": "A",
    "ɔ^ɪ": "Y",
    "d^ʒ": "ʤ",
    "t^ʃ": "ʧ",
    "ə^l": "ᵊl",
    "ɚ": "əɹ",
    "ɐ": "ə",
    "ɬ": "l",
    "r": "ɹ",
}
_ACCENTS = {
    "en-us": {"o^ʊ": "O", "ɔː^ɹ": "ɔɹ", "ɑː^ɹ": "ɑɹ", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɾ": "T", "a": "æ", "ː": ""},
    "en-gb": {"ə^ʊ": "Q", "o^ʊ": "Q", "e^ə": "ɛː"},
}
"""Symbols of espeak-ng with a tie between the letters of a diphthong, and those of Kokoro, in order of replacement.

Kokoro has a letter for each diphthong, and leaves out the length marks of American vowels.
"""


def to_kokoro(phonemes: str, accent: str) -> str:
    """Convert phonemes of espeak-ng.

    Args:
        phonemes: IPA with the tie ``^`` in diphthongs and affricates.
        accent: ``en-us`` or ``en-gb``.
    """
    for symbols, letter in (*_SHARED.items(), *_ACCENTS[accent].items()):
        phonemes = phonemes.replace(symbols, letter)
    without_tie = phonemes.replace("^", "").replace("ɹɹ", "ɹ")
    return "".join(character for character in without_tie if not unicodedata.combining(character))


class Phonemizer:
    """Converts sentences to phonemes of Kokoro.

    Raises:
        InputError: the packages of espeak-ng are not installed.
    """

    def __init__(self) -> None:
        try:
            loader = import_module("espeakng_loader")
            wrapper = import_module("phonemizer.backend.espeak.wrapper").EspeakWrapper
            backend = import_module("phonemizer.backend").EspeakBackend
        except ImportError as error:
            raise InputError("phonemes need espeak-ng: pip install espeakng-loader phonemizer-fork") from error
        wrapper.set_library(loader.get_library_path())
        wrapper.set_data_path(loader.get_data_path())
        self._backends: dict[str, Any] = {
            accent: backend(accent, preserve_punctuation=True, with_stress=True, tie="^") for accent in _ACCENTS
        }

    def convert(self, sentence: str, accent: str, name: str = "", name_phonemes: str = "") -> str:
        """Return the phonemes of a sentence.

        Args:
            accent: ``en-us`` or ``en-gb``.
            name: part of the sentence that espeak-ng mispronounces.
            name_phonemes: pronunciation of that part in IPA with the tie ``^``; empty for the one of espeak-ng.
        """
        if not name_phonemes:
            return to_kokoro(self._phonemize(sentence, accent), accent)
        before, after = sentence.split(name, 1)
        parts = self._phonemize(before, accent), name_phonemes, self._phonemize(after, accent)
        punctuated = " ".join(filter(None, parts))
        for mark in ".,?":
            punctuated = punctuated.replace(f" {mark}", mark)
        return to_kokoro(punctuated, accent)

    def _phonemize(self, text: str, accent: str) -> str:
        text = text.strip()
        if not any(character.isalpha() for character in text):
            return text
        return str(self._backends[accent].phonemize([text], strip=True)[0])
