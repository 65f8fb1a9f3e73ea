"""Synthetic speech for words that the recordings lack, read by the speech synthesizer `hibari-tts` (Apache-2.0).

A single synthetic voice teaches the model nothing about voices. Its pitch and speed are therefore varied for each
sentence, and only a share of the training data is synthetic.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soxr

from recipes.embedded_en.corpus import Corpus, Recording, Samples
from recipes.embedded_en.settings import (
    MAX_WORDS_PER_RARE_WORD,
    RARE_WORD_MIN_TEXT_COUNT,
    RARE_WORD_TARGET,
    SENTENCE_WORDS,
    SYNTHESIS_PEAK,
    SYNTHESIS_PITCH,
    SYNTHESIS_SILENCE_S,
    SYNTHESIS_SPEED,
)
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import InputError

SPEAKER = "hibari"
_VOICE_RATE = 24_000

_PLAIN = re.compile(r"[A-Za-z' ,.;:!?-]+")
_ABBREVIATION = re.compile(r"\b[A-Z]{2,}\b|\b(Mr|Mrs|Dr|St|Ms|Esq|Messrs|etc|viz|Rev|Capt|Col|Gen)\b|[A-Z]\.")
"""Abbreviations are not spoken as they are written."""


def read_sentences(texts: Sequence[Path], seed: int) -> list[str]:
    """Return the sentences that are spoken as they are written, in random order."""
    sentences: list[str] = []
    for path in texts:
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8", errors="replace"))
        text = re.sub('[‘“”_"]', "", text.replace("’", "'"))
        for sentence in re.split(r"(?<=[.!?;])\s+", text):
            plain = _PLAIN.fullmatch(sentence) and not _ABBREVIATION.search(sentence)
            if plain and SENTENCE_WORDS[0] <= len(sentence.split()) <= SENTENCE_WORDS[1]:
                sentences.append(sentence)
    return [sentences[index] for index in np.random.default_rng(seed).permutation(len(sentences))]


def select_rare_words(sentences: Sequence[str], spoken: Counter[str]) -> list[str]:
    """Select sentences with words that are rare in the speech so far, those with the rarest words first.

    Args:
        sentences: candidates.
        spoken: occurrences of each word in the speech so far.
    """
    in_texts = Counter(word for sentence in sentences for word in normalize(sentence).split())
    spoken = spoken.copy()
    selected: dict[str, None] = {}
    for target in range(1, RARE_WORD_TARGET + 1):
        for sentence in sentences:
            if sentence in selected:
                continue
            words = normalize(sentence).split()
            rare = sum(spoken[word] < target and in_texts[word] >= RARE_WORD_MIN_TEXT_COUNT for word in words)
            if rare and rare * MAX_WORDS_PER_RARE_WORD >= len(words):
                selected[sentence] = None
                spoken.update(words)
    return list(selected)


def normalize(sentence: str) -> str:
    """Return the words of a sentence as the model writes them."""
    words = re.sub("[^a-z' ]", " ", sentence.lower()).split()
    return " ".join(word.strip("'") for word in words if word.strip("'"))


def synthesize(sentences: Sequence[str], hours: float, seed: int, on_progress: Callable[[float], None]) -> Corpus:
    """Synthesize sentences until the given duration is reached.

    Args:
        sentences: sentences in order.
        hours: duration of the speech.
        seed: seed of the random changes.
        on_progress: called with the hours so far.

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
    for number, sentence in enumerate(sentences):
        audio = voice(sentence, speed=rng.uniform(*SYNTHESIS_SPEED), seed=number)
        audio = soxr.resample(audio, _VOICE_RATE * rng.uniform(*SYNTHESIS_PITCH), SAMPLE_RATE)
        before, after = (np.zeros(int(rng.uniform(*SYNTHESIS_SILENCE_S) * SAMPLE_RATE)) for _ in range(2))
        audio = np.concatenate([before, audio, after])
        audio *= rng.uniform(*SYNTHESIS_PEAK) / max(1e-6, np.abs(audio).max())
        parts.append((audio * 32767).astype(np.int16))
        recordings.append(Recording(SPEAKER, normalize(sentence), offset, len(audio)))
        offset += len(audio)
        on_progress(offset / SAMPLE_RATE / 3600)
        if offset >= hours * 3600 * SAMPLE_RATE:
            break
    return Corpus(recordings, np.concatenate(parts))
