"""Convert text to the tokens of an attention decoder.

Token ids carry the order in which a byte-pair encoding learned its tokens, so a `Vocabulary` is enough to repeat its
merges: of all neighbors that form a token together, those that form the token with the lowest id are joined first.

Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stream_asr.acoustic.base import Vocabulary

_WORD = re.compile(r"\s*\S+|\s+")


class UnknownCharacterError(ValueError):
    """The vocabulary can write neither a character nor its bytes. The message names the character."""


class TokenEncoder:
    """Converts text to the tokens that a decoder writes for it.

    Words are encoded one by one: tokens do not cross a space. Characters that are not tokens become the tokens of their
    bytes. Where several tokens have the same text, as bytes and letters do in vocabularies with byte fallback, the
    letter is used.

    Args:
        vocabulary: of a byte-pair encoding whose ids follow the order of its merges.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        # The last of several single bytes is the letter; of longer tokens, the first one was learned first.
        self._ids: dict[bytes, int] = {}
        for index, piece in enumerate(vocabulary.pieces):
            if len(piece) == 1:
                self._ids[piece] = index
            elif piece:
                self._ids.setdefault(piece, index)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text, without begin and end tokens.

        Args:
            text: as the decoder writes it. A text at the start of a hypothesis begins with a space where the decoder
                writes one there.

        Raises:
            UnknownCharacterError: the vocabulary cannot write a character.
        """
        return tuple(token for word in _WORD.findall(text) for token in self._merge(word))

    def _merge(self, word: str) -> tuple[int, ...]:
        ids = self._ids
        parts = list(self._split(word))
        while True:
            ranked = [
                (ids[pair], position)
                for position in range(len(parts) - 1)
                if (pair := parts[position] + parts[position + 1]) in ids
            ]
            if not ranked:
                return tuple(ids[part] for part in parts)
            _, position = min(ranked)
            parts[position : position + 2] = [parts[position] + parts[position + 1]]

    def _split(self, word: str) -> Iterator[bytes]:
        """Yield the characters that are tokens, and the bytes of all others."""
        if word[0] == " " and b" " not in self._ids and word[:2].encode() in self._ids:
            yield word[:2].encode()  # the vocabulary has spaces only together with a letter
            word = word[2:]
        for character in word:
            encoded = character.encode(errors="replace")
            if encoded in self._ids:
                yield encoded
                continue
            for byte in encoded:
                if bytes([byte]) not in self._ids:
                    raise UnknownCharacterError(f"the vocabulary cannot write {character!r}")
                yield bytes([byte])
