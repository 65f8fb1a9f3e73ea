"""What a text is worth, letter by letter: a language model and hotwords as one graph that grows as it is walked.

A node stands for all texts that have the same future: the same last words, as far as the language model can
tell them apart, the same letters of the word being spelt, the same hotword begun. An edge is what the acoustic
model may write next. Nodes and edges are made when they are first needed and remembered.

Sources: hotwords that are paid letter by letter and charged back when they break off, as in Zhao et al.,
"Shallow-Fusion End-to-End Contextual Biasing", 2019; unigram look-ahead, Ortmanns et al., "Language-Model
Look-Ahead for Large Vocabulary Speech Recognition", 1996.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_asr.acoustic.labels import Labels
from stream_asr.config import BeamConfig
from stream_asr.decoding.hotwords import NO_HOTWORDS, Hotwords
from stream_asr.lm.ngram import START, UNKNOWN, Context, NgramModel
from stream_asr.lm.text import plain


@dataclass(slots=True, eq=False)
class Node:
    """Texts with the same future.

    Attributes:
        context: what the language model knows of the words before.
        phrase: the words of a hotword phrase that were said so far, each with a space after it.
        letters: the word being spelt, as the model writes it.
        pending: what those letters are worth so far; it is settled when the word ends.
        edges: by output of the model.
    """

    context: Context
    phrase: str
    letters: str
    pending: float
    edges: dict[int, Edge] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """One output written: where it leads, what it adds to the score in nats, and the words it completes."""

    node: Node
    gain: float
    words: tuple[str, ...]


class TokenGraph:
    """The graph for one model's outputs.

    Args:
        labels: what the outputs spell.
        config: the weights.
        language_model: None leaves all words equally likely.
        hotwords: words and phrases to listen for.
    """

    def __init__(
        self,
        labels: Labels,
        config: BeamConfig,
        language_model: NgramModel | None = None,
        hotwords: Hotwords = NO_HOTWORDS,
    ) -> None:
        self._labels = labels
        self._config = config
        self._model = language_model
        self._hotwords = hotwords
        self._nodes: dict[tuple[Context, str, str], Node] = {}
        context = language_model.after((), START) if language_model is not None else ()
        self.root = self._node(context, "", "")

    def __len__(self) -> int:
        """The nodes made so far."""
        return len(self._nodes)

    def fresh(self) -> TokenGraph:
        """The same graph with nothing made of it yet."""
        return TokenGraph(self._labels, self._config, self._model, self._hotwords)

    def edge(self, node: Node, output: int) -> Edge:
        """What comes of writing ``output``, which is not the blank, after the texts of ``node``."""
        if (known := node.edges.get(output)) is None:
            known = node.edges[output] = self._write(node, self._labels.tokens[output])
        return known

    def ending(self, node: Node) -> float:
        """What the end of the text adds to the score: the word being spelt is whole."""
        return self._close(node)[1] if node.letters else 0.0

    def is_fragment(self, node: Node) -> bool:
        """The word being spelt is none that is known, as it stands."""
        word = plain(node.letters)
        if self._model is None or not word:
            return False
        return self._model.id(word) == UNKNOWN and not self._hotwords.spells(node.phrase, word)

    def _write(self, node: Node, piece: str) -> Edge:
        if " " not in piece:
            longer = self._node(node.context, node.phrase, node.letters + piece)
            return Edge(longer, longer.pending - node.pending, ())
        gain, words = 0.0, []
        head, *further = piece.split(" ")
        for starts_word, part in ((False, head), *((True, part) for part in further)):
            if starts_word and node.letters:
                words.append(node.letters)
                node, settled = self._close(node)
                gain += settled
            if part:
                longer = self._node(node.context, node.phrase, node.letters + part)
                gain += longer.pending - node.pending
                node = longer
        return Edge(node, gain, tuple(words))

    def _close(self, node: Node) -> tuple[Node, float]:
        """The node after the word being spelt, and what that adds to the score."""
        word = plain(node.letters)
        phrase, bonus = self._hotwords.said(node.phrase, word)
        worth, context = bonus, node.context
        if self._model is not None and word:
            number = self._model.id(word)
            worth += self._config.word_bonus + self._config.lm_weight * self._model.score(context, number)
            if number == UNKNOWN and not self._hotwords.spells(node.phrase, word):
                worth -= self._config.unknown_penalty
            context = self._model.after(context, number)
        after = self._node(context, phrase, "")
        return after, worth + after.pending - node.pending

    def _node(self, context: Context, phrase: str, letters: str) -> Node:
        if (known := self._nodes.get((context, phrase, letters))) is None:
            spelt = plain(letters)
            kept_phrase = self._hotwords.still(phrase, spelt)
            known = Node(context, kept_phrase, letters, self._pending(kept_phrase, spelt))
            self._nodes[context, phrase, letters] = known
        return known

    def _pending(self, phrase: str, letters: str) -> float:
        worth = self._hotwords.pending(phrase, letters)
        if self._model is not None and letters:
            likeliest = self._model.likeliest(letters)
            if likeliest is None:
                likeliest = self._model.unknown
                if not self._hotwords.spells(phrase, letters):
                    worth -= self._config.unknown_penalty
            worth += self._config.word_bonus + self._config.lm_weight * likeliest
        return worth
