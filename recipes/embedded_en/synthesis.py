"""Speech made of text, to teach spellings that the recordings do not have: `hibari-tts` (Apache-2.0) reads it aloud.

One synthetic voice teaches nothing about voices, so it gets another pitch and pace for each sentence, and only a part
of what is learnt from comes from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soxr

from recipes.embedded_en.corpus import Corpus, Recording, Samples
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError

SPEAKER = "hibari"
_VOICE_RATE = 24_000
_WORDS = (4, 28)
_PACE, _PITCH = (0.85, 1.3), (0.93, 1.06)
_SILENCE_S = (0.05, 0.3)

_WANTED = 4
"""Times that each word is to be heard."""

_SEEN_IN_TEXT = 3
"""Words that the texts have less often are names and slips."""

_WORDS_A_RARE_ONE = 12

_PLAIN = re.compile(r"[A-Za-z' ,.;:!?-]+")
_UNSPEAKABLE = re.compile(r"\b[A-Z]{2,}\b|\b(Mr|Mrs|Dr|St|Ms|Esq|Messrs|etc|viz|Rev|Capt|Col|Gen)\b|[A-Z]\.")
"""Abbreviations: what is said for them is not what is written."""


def sentences(texts: Sequence[Path], seed: int) -> list[str]:
    """Sentences that are read as they are written, in random order."""
    found: list[str] = []
    for path in texts:
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8", errors="replace"))
        text = re.sub('[‘“”_"]', "", text.replace("’", "'"))
        for sentence in re.split(r"(?<=[.!?;])\s+", text):
            plain = _PLAIN.fullmatch(sentence) and not _UNSPEAKABLE.search(sentence)
            if plain and _WORDS[0] <= len(sentence.split()) <= _WORDS[1]:
                found.append(sentence)
    return [found[place] for place in np.random.default_rng(seed).permutation(len(found))]


def with_rare_words(found: Sequence[str], heard: Counter[str]) -> list[str]:
    """Those of the sentences that have words which are heard seldom: first those with words never heard.

    Args:
        heard: how often each word is in the speech there is.
    """
    in_text = Counter(word for sentence in found for word in written(sentence).split())
    heard = heard.copy()
    chosen: dict[str, None] = {}
    for wanted in range(1, _WANTED + 1):
        for sentence in found:
            if sentence in chosen:
                continue
            words = written(sentence).split()
            rare = sum(heard[word] < wanted and in_text[word] >= _SEEN_IN_TEXT for word in words)
            if rare and rare * _WORDS_A_RARE_ONE >= len(words):
                chosen[sentence] = None
                heard.update(words)
    return list(chosen)


def written(sentence: str) -> str:
    """The words of a sentence as the model writes them."""
    words = re.sub("[^a-z' ]", " ", sentence.lower()).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def synthesised(spoken: Sequence[str], hours: float, seed: int, working: Callable[[float], None]) -> Corpus:
    """Read sentences aloud until there are so many hours of speech.

    Args:
        working: called with the hours so far.

    Raises:
        InputError: the synthesizer is not installed.
    """
    try:
        from hibari import Hibari
    except ImportError as error:
        raise InputError("synthetic speech needs a synthesizer: pip install hibari-tts") from error
    voice, rng = Hibari(), np.random.default_rng(seed)
    recordings: list[Recording] = []
    parts: list[Samples] = []
    offset = 0
    for number, sentence in enumerate(spoken):
        audio = voice(sentence, speed=rng.uniform(*_PACE), seed=number)
        audio = soxr.resample(audio, _VOICE_RATE * rng.uniform(*_PITCH), SAMPLE_RATE)
        before, after = (np.zeros(int(rng.uniform(*_SILENCE_S) * SAMPLE_RATE)) for _ in range(2))
        audio = np.concatenate([before, audio, after])
        audio *= rng.uniform(0.3, 0.9) / max(1e-6, np.abs(audio).max())
        parts.append((audio * 32767).astype(np.int16))
        recordings.append(Recording(SPEAKER, written(sentence), offset, len(audio)))
        offset += len(audio)
        working(offset / SAMPLE_RATE / 3600)
        if offset >= hours * 3600 * SAMPLE_RATE:
            break
    return Corpus(recordings, np.concatenate(parts))
