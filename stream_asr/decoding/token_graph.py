"""The token graph: scores of a language model and of hotwords, token by token.

A node stands for all texts with the same future: the same language model context, the same started hotword and the
same partial word. An edge is a token that the acoustic model may write next, with a score and the words that it
completes, like an arc of a weighted finite-state transducer. Nodes and edges are made when a search first reaches
them.

The score of a word is known when the word ends. Until then its letters get a provisional score: the language model's
look-ahead and the hotwords that the letters may become.

Sources: hotwords that are scored letter by letter and charged back when they break off, as in Zhao et al.,
"Shallow-Fusion End-to-End Contextual Biasing", 2019; unigram look-ahead, Ortmanns et al., "Language-Model
Look-Ahead for Large Vocabulary Speech Recognition", 1996.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_asr.acoustic.labels import Labels, split_token
from stream_asr.config import BeamConfig
from stream_asr.decoding.hotwords import NO_HOTWORDS, Hotwords
from stream_asr.lm.ngram import START, UNKNOWN, Context, NgramModel
from stream_asr.lm.text import normalize_word


@dataclass(slots=True, eq=False)
class Node:
    """Texts with the same future.

    Attributes:
        context: the language model's context.
        hotword_context: the complete words of a started hotword phrase, each followed by a space.
        partial_word: the word that is being spelled, as the acoustic model writes it.
        provisional_score: score of ``partial_word`` so far, in nats; it is replaced when the word ends.
        edges: the edges made so far, by token.
    """

    context: Context
    hotword_context: str
    partial_word: str
    provisional_score: float
    edges: dict[int, Edge] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """A token after a node.

    Attributes:
        target: the node after the token.
        score: what the token adds to the score, in nats.
        words: the words that the token completes.
    """

    target: Node
    score: float
    words: tuple[str, ...]


class TokenGraph:
    """The graph of a model's tokens.

    Args:
        labels: the acoustic model's tokens.
        config: weights of the language model, words and hotwords.
        language_model: None if all words are equally probable.
        hotwords: words and phrases with a bonus.
    """

    def __init__(
        self,
        labels: Labels,
        config: BeamConfig,
        language_model: NgramModel | None = None,
        hotwords: Hotwords = NO_HOTWORDS,
    ) -> None:
        self._labels = labels
        self._token_parts = [split_token(text) for text in labels.tokens]
        self._config = config
        self._model = language_model
        self._hotwords = hotwords
        self._nodes: dict[tuple[Context, str, str], Node] = {}
        context = language_model.next_context((), START) if language_model is not None else ()
        self.root = self._node(context, "", "")

    def __len__(self) -> int:
        """Return the number of nodes made so far."""
        return len(self._nodes)

    def empty_copy(self) -> TokenGraph:
        """Return a graph of the same scores in which no node but the root has been made."""
        return TokenGraph(self._labels, self._config, self._model, self._hotwords)

    def edge(self, node: Node, token: int) -> Edge:
        """Return the edge of a token, which must not be the blank."""
        if (edge := node.edges.get(token)) is None:
            edge = node.edges[token] = self._make_edge(node, self._token_parts[token])
        return edge

    def final_score(self, node: Node) -> float:
        """Return what the end of the text adds to the score, in nats: it completes the partial word."""
        return self._complete_word(node)[1] if node.partial_word else 0.0

    def is_fragment(self, node: Node) -> bool:
        """Return whether the partial word is out of vocabulary, and no prefix of a hotword either."""
        word = normalize_word(node.partial_word)
        if self._model is None or not word:
            return False
        return self._model.word_id(word) == UNKNOWN and not self._hotwords.has_prefix(node.hotword_context, word)

    def _make_edge(self, node: Node, parts: list[tuple[bool, str]]) -> Edge:
        score, words = 0.0, []
        for starts_word, letters in parts:
            if starts_word and node.partial_word:
                words.append(node.partial_word)
                node, word_score = self._complete_word(node)
                score += word_score
            if letters:
                target = self._node(node.context, node.hotword_context, node.partial_word + letters)
                score += target.provisional_score - node.provisional_score
                node = target
        return Edge(node, score, tuple(words))

    def _complete_word(self, node: Node) -> tuple[Node, float]:
        """Return the node after the partial word, and what the end of the word adds to the score."""
        word = normalize_word(node.partial_word)
        hotword_context, score = self._hotwords.complete_word(node.hotword_context, word)
        context = node.context
        if self._model is not None and word:
            word_id = self._model.word_id(word)
            score += self._config.word_bonus + self._config.lm_weight * self._model.log_prob(context, word_id)
            if word_id == UNKNOWN and not self._hotwords.has_prefix(node.hotword_context, word):
                score -= self._config.unknown_penalty
            context = self._model.next_context(context, word_id)
        target = self._node(context, hotword_context, "")
        return target, score + target.provisional_score - node.provisional_score

    def _node(self, context: Context, hotword_context: str, partial_word: str) -> Node:
        key = context, hotword_context, partial_word
        if (node := self._nodes.get(key)) is None:
            letters = normalize_word(partial_word)
            hotword_context = self._hotwords.matching_context(hotword_context, letters)
            score = self._provisional_score(hotword_context, letters)
            node = self._nodes[key] = Node(context, hotword_context, partial_word, score)
        return node

    def _provisional_score(self, hotword_context: str, letters: str) -> float:
        score = self._hotwords.provisional_score(hotword_context, letters)
        if self._model is not None and letters:
            lookahead = self._model.max_unigram_log_prob(letters)
            if lookahead is None:
                lookahead = self._model.oov_log_prob
                if not self._hotwords.has_prefix(hotword_context, letters):
                    score -= self._config.unknown_penalty
            score += self._config.word_bonus + self._config.lm_weight * lookahead
        return score
