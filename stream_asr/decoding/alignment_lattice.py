"""The lattice of a text for CTC forced alignment, and the best path through it.

Nodes are positions in the text, and an edge is a token that spells the characters between two nodes. All ways to
divide the text into tokens compete. Each node has a state for blanks, and each edge has a state for its token. The
best path through the states is found with the Viterbi algorithm.

Source: the states and transitions of Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented
Sequence Data with Recurrent Neural Networks", 2006, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_asr.array_types import FloatArray

WILDCARD_PENALTY = 0.5
"""Distance of a wildcard from the best token, in nats per frame.

Above 0, so that a wildcard does not extend over silence; low enough that a wildcard over all frames of a word scores
better than blanks in place of the word's tokens.
"""

Indices = npt.NDArray[np.int64]


@dataclass(slots=True)
class Trie:
    """The texts of tokens, as a tree of their characters.

    Attributes:
        children: the nodes after one more character.
        tokens: the tokens whose text ends here.
    """

    children: dict[str, Trie] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)

    def insert(self, text: str, token: int) -> None:
        """Add a token."""
        node = self
        for character in text:
            node = node.children.setdefault(character, Trie())
        node.tokens.append(token)


class Symbol(NamedTuple):
    """A character of a text, or the place of a wildcard.

    Attributes:
        text: the character. A space is a place where a new word may begin.
        optional: whether it may be left out.
        word: index of the word that it belongs to.
    """

    text: str
    optional: bool
    word: int


class _Match(NamedTuple):
    """A token that spells some characters: the node after them, and the range of words that they belong to."""

    end: int
    token: int
    first_word: int
    stop_word: int


def _matches(symbols: Sequence[Symbol], start: int, trie: Trie, first: int = 0, stop: int = 0) -> Iterator[_Match]:
    """Return the tokens that spell characters from ``start`` on.

    Optional characters are left out at the start or inside of a token; those at the end of the text also at the end of
    a token. A space may follow another one.
    """
    for token in trie.tokens:
        yield _Match(start, token, first, stop)
        if start < len(symbols) and all(symbol.optional for symbol in symbols[start:]):
            yield _Match(len(symbols), token, first, stop)
    space = trie.children.get(" ")
    if space is not None and start > 0 and symbols[start - 1].text == " ":
        yield from _matches(symbols, start, space, first, stop)
    for index in range(start, len(symbols)):
        text, optional, word = symbols[index]
        if (child := trie.children.get(text)) is not None:
            if text == " ":
                yield from _matches(symbols, index + 1, child, first, stop)
            else:
                yield from _matches(symbols, index + 1, child, first if stop else word, word + 1)
        if not optional:
            break


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """The lattice of one or more words, without its first node, which is the last one of the fragment before it.

    States are ordered by the node at which they end: first the blank of this node, then the edges.

    Attributes:
        tokens: token of each state, shape (states,).
        sources: node before each state, shape (states,); for a blank, its own node.
        groups: first state of each node from node 1 on, shape (nodes,).
        words: range of the words to which the token of each state adds characters, shape (2, states); empty for blanks
            and spaces.
        word_count: number of words.
        is_connected: whether tokens can spell the words.
    """

    tokens: Indices
    sources: Indices
    groups: Indices
    words: Indices
    word_count: int
    is_connected: bool

    @classmethod
    def build(cls, symbols: Sequence[Symbol], word_count: int, trie: Trie, blank: int) -> Fragment:
        """Find all tokens that spell parts of a text.

        Args:
            symbols: the characters of the words, including the spaces before them.
            word_count: number of words.
            trie: the texts of all tokens.
            blank: index of the blank.
        """
        incoming: list[dict[tuple[int, int], _Match]] = [{} for _ in range(len(symbols) + 1)]
        for source in range(len(symbols) + 1):
            if source == 0 or incoming[source]:
                for match in _matches(symbols, source, trie):
                    incoming[match.end][source, match.token] = match
        rows: list[tuple[int, int, int, int]] = []
        groups: list[int] = []
        for node in range(1, len(symbols) + 1):
            groups.append(len(rows))
            rows.append((blank, node, 0, 0))
            for (source, token), match in incoming[node].items():
                rows.append((token, source, match.first_word, match.stop_word))
        tokens, sources, *words = np.array(rows, dtype=np.int64).reshape(-1, 4).T
        is_connected = bool(incoming[-1])
        return cls(tokens, sources, np.array(groups, dtype=np.int64), np.stack(words), word_count, is_connected)


@dataclass(frozen=True, slots=True, eq=False)
class Lattice:
    """The lattice of a text.

    Attributes:
        tokens: token of each state, int64, shape (states,).
        predecessors: the states from which each state is reached, most preferred first, int64, shape (degree, states).
            States with fewer predecessors have one of them several times.
        entries: the states with which a path may begin.
        finals: the states with which a path may end.
        wildcards: the states of wildcards.
        free_state: the state of the frames after the last word; None for a text that ends with the frames.
        words: range of words of each state, shape (2, states); see `Fragment`.
    """

    tokens: Indices
    predecessors: Indices
    entries: Indices
    finals: Indices
    wildcards: Indices
    free_state: int | None
    words: Indices

    @classmethod
    def join(cls, fragments: Sequence[Fragment], blank: int, wildcard: int, free_end: bool) -> Lattice:
        """Join fragments.

        Args:
            fragments: the fragments of a text, in order.
            blank: index of the blank.
            wildcard: the token of wildcards: the number of tokens of the model.
            free_end: whether any tokens may follow the text.
        """
        nodes = np.cumsum([0, *(len(fragment.groups) for fragment in fragments)])
        firsts = np.cumsum([1, *(len(fragment.tokens) for fragment in fragments)])
        first_words = np.cumsum([0, *(fragment.word_count for fragment in fragments)])
        states, last_node = int(firsts[-1]), int(nodes[-1])
        size = states + free_end

        tokens = np.full(size, wildcard + 1)
        sources = np.full(size, last_node)
        words = np.zeros((2, size), dtype=np.int64)
        starts = np.zeros(last_node + 1, dtype=np.int64)
        tokens[0] = blank
        sources[0] = 0
        for fragment, node, first, word in zip(fragments, nodes, firsts, first_words, strict=False):
            own = slice(first, first + len(fragment.tokens))
            tokens[own] = fragment.tokens
            sources[own] = fragment.sources + node
            words[:, own] = fragment.words + word
            starts[node + 1 : node + 1 + len(fragment.groups)] = fragment.groups + first

        # The states that end at each node, its blank first.
        counts = np.diff(starts, append=states)
        rows = np.arange(counts.max())[:, np.newaxis]
        ending = np.where(rows < counts, starts + rows, starts)
        predecessors = np.empty((len(rows) + 1, size), dtype=np.int64)
        predecessors[0] = np.arange(size)
        predecessors[1:] = ending[:, sources]
        # A token does not follow itself without a blank.
        repeats = (tokens[predecessors[1:]] == tokens) & (tokens < wildcard)
        np.copyto(predecessors[1:], predecessors[1], where=repeats)
        if free_end:  # the last token keeps its frames, although the tokens after it would score as well
            predecessors[:-1, states] = ending[:, last_node]
            predecessors[-1, states] = states
        return cls(
            tokens=tokens,
            predecessors=predecessors,
            entries=np.flatnonzero(sources == 0),
            finals=np.arange(starts[last_node], size),
            wildcards=np.flatnonzero(tokens == wildcard),
            free_state=states if free_end else None,
            words=words,
        )

    def best_path(self, log_probs: FloatArray, best: FloatArray) -> Path | None:
        """Return the best path; None if there is none.

        Args:
            log_probs: natural logarithms, float32, shape (frames, tokens).
            best: log-probability of the best token of each frame, float32, shape (frames,).
        """
        frames, states = len(log_probs), len(self.tokens)
        if not frames:
            return None
        emissions = log_probs.take(self.tokens, axis=1, mode="clip")
        if len(self.wildcards):
            emissions[:, self.wildcards] = (best - np.float32(WILDCARD_PENALTY))[:, np.newaxis]
        if self.free_state is not None:
            emissions[:, self.free_state] = best
        scores = np.empty((frames, states), dtype=np.float32)
        scores[0] = -inf
        scores[0, self.entries] = emissions[0, self.entries]
        candidates = np.empty(self.predecessors.shape, dtype=np.float32)
        for frame in range(1, frames):
            scores[frame - 1].take(self.predecessors, out=candidates, mode="clip")
            after = scores[frame]
            np.maximum.reduce(candidates, axis=0, out=after)
            np.add(after, emissions[frame], out=after)

        state = int(self.finals[scores[-1, self.finals].argmax()])
        log_prob = float(scores[-1, state])
        if log_prob == -inf:
            return None
        path = [state]
        for before in scores[-2::-1]:
            predecessors = self.predecessors[:, state]
            state = int(predecessors[before.take(predecessors).argmax()])
            path.append(state)
        return Path(np.array(path[::-1]), emissions[np.arange(frames), path[::-1]], log_prob)


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A path through a lattice.

    Attributes:
        states: state of each frame, int64, shape (frames,).
        emissions: log-probability of each frame, float32, shape (frames,).
        log_prob: sum of the emissions.
    """

    states: Indices
    emissions: FloatArray
    log_prob: float

    def runs(self) -> tuple[Indices, Indices, Indices, FloatArray]:
        """Return the runs of equal states: state, first frame, frame after the last one, highest emission."""
        starts = np.concatenate([[0], np.flatnonzero(np.diff(self.states)) + 1])
        stops = np.append(starts[1:], len(self.states))
        return self.states[starts], starts, stops, np.maximum.reduceat(self.emissions, starts)
