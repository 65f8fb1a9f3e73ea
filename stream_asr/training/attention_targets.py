"""The texts that an attention decoder is trained to write.

An attention decoder writes capitals and punctuation. Transcripts often have neither, and training on them as they are
would make the decoder forget both. Such transcripts get them from the decoder's own hypothesis, as far as it contains
the same words.

Source: Ratcliff and Metzener, "Pattern Matching: The Gestalt Approach", 1988 (the comparison of word sequences).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

_PUNCTUATION = re.compile(r"[.,;:?!…](\s|$)")
_END = re.compile(r"[.?!…]$")
_WORD = re.compile(r"[^\s-]+")
_EDGES = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
_FIRST_PERSON = re.compile(r"i(?=$|['’])")
_WORD_LETTERS = frozenset("aio")
"""Letters that are also words."""


def needs_hypothesis(transcript: str) -> bool:
    """Return whether a transcript has only one case or no punctuation."""
    return transcript in (transcript.lower(), transcript.upper()) or not _PUNCTUATION.search(transcript)


def written_text(transcript: str, hypothesis: str) -> str:
    """Return a transcript with capitals and punctuation.

    A transcript with only one case is converted to lower case and gets capitals: those of the same words in the
    hypothesis, and those of its first word, of spelled letters and of "I". A transcript without punctuation gets that
    of the same words in the hypothesis, and the end of the sentence. What a transcript has is not changed.

    Args:
        transcript: one line without spaces around it.
        hypothesis: what the decoder wrote for the same recording before training.
    """
    one_case = transcript in (transcript.lower(), transcript.upper())
    punctuated = _PUNCTUATION.search(transcript) is not None
    if not one_case and punctuated:
        return transcript
    words = (transcript.lower() if one_case else transcript).split()
    models = _WORD.findall(hypothesis)
    bare, bare_models = [_bare(word) for word in words], [_bare(word) for word in models]
    written = list(words)
    for match in SequenceMatcher(None, bare, bare_models, autojunk=False).get_matching_blocks():
        for word, model in zip(range(match.a, match.a + match.size), models[match.b :][: match.size], strict=False):
            if not _is_spelled(bare, word):  # models write spelled letters in many ways
                written[word] = _write_word(words[word], model, cased=not one_case, punctuated=punctuated)
    if one_case:
        written = [
            words[index].upper() if _is_spelled(bare, index) else _FIRST_PERSON.sub("I", word)
            for index, word in enumerate(written)
        ]
        written[0] = written[0][:1].upper() + written[0][1:]
    if not punctuated and not _END.search(written[-1]) and (end := _END.search(hypothesis.strip())):
        written[-1] += end[0]
    return " ".join(written)


def _bare(word: str) -> str:
    return _split(word)[1].lower().replace("’", "'")


def _split(word: str) -> tuple[str, str, str]:
    """Divide a word into the punctuation before it, the word, and the punctuation after it."""
    match = _EDGES.match(word)
    assert match is not None, "the pattern matches all texts"
    before, bare, after = match.groups()
    return before, bare, after


def _write_word(word: str, model: str, *, cased: bool, punctuated: bool) -> str:
    """Return a word with the case and the punctuation that the model gives to it, unless it has its own."""
    before, bare, after = _split(word)
    model_before, model_bare, model_after = _split(model)
    if not cased:
        bare = model_bare
    if not punctuated:
        before, after = before or model_before, after or model_after
    return f"{before}{bare}{after}"


def _is_spelled(bare: Sequence[str], index: int) -> bool:
    """Return whether a word is a letter that is not a word, or stands next to another letter."""
    word = bare[index]
    if len(word) != 1 or not word.isalpha():
        return False
    neighbors = (*bare[max(0, index - 1) : index], *bare[index + 1 : index + 2])
    return word not in _WORD_LETTERS or any(len(other) == 1 for other in neighbors)
