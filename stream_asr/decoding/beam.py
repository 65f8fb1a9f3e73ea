"""CTC prefix beam search with a language model and hotwords.

The search finds the most probable text, summed over its alignments, rather than the most probable path. It is written
in Python because streaming needs a state that advances frame by frame, is copied for a preview at no cost, separates
the words that can no longer change from the others, and contains the frames of each word.

Prefixes with the same future, that is, with the same node of the token graph and the same last token, are recombined:
only the best of them survives. Alternatives therefore disappear a few words later, and the words that the remaining
prefixes have in common are stable (see `stream_asr.decoding.agreement`).

Source: Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
DNNs", 2014, for the sums over alignments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import nlargest
from math import exp, inf, log1p
from operator import itemgetter
from typing import TypeAlias

import numpy as np

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import BeamConfig, ms_to_frames
from stream_asr.decoding.agreement import EMPTY_HISTORY, WordHistory, settle, stable_text
from stream_asr.decoding.base import Hypothesis
from stream_asr.decoding.token_graph import Edge, Node, TokenGraph


@dataclass(slots=True, eq=False)
class _Prefix:
    """A prefix in the beam. Its times and confidences are those of its best alignment.

    Scores are natural logarithms.

    Attributes:
        node: node of the token graph.
        token: the last token; -1 before the first one.
        log_p_blank: log-probability of the alignments that end in a blank.
        log_p_non_blank: log-probability of the alignments that end in ``token``.
        graph_score: sum of the edges' scores: language model, word bonuses and hotwords.
        history: the complete words.
        first_frame, stop_frame: frames of the partial word.
        peak_sum: sum of the highest posteriors of the partial word's tokens, without its last token.
        peak: highest posterior of the last token.
        token_count: number of tokens of the partial word.
        score: log-probability of all alignments plus ``graph_score``.
    """

    node: Node
    token: int
    log_p_blank: float
    log_p_non_blank: float
    graph_score: float
    history: WordHistory
    first_frame: int
    stop_frame: int
    peak_sum: float
    peak: float
    token_count: int
    score: float


_Key: TypeAlias = tuple[Node, int]
"""Node and last token: prefixes with equal keys have the same future."""

_Candidate: TypeAlias = "tuple[float, float, float, int, _Prefix, Edge | None]"
"""A prefix of the next frame, before pruning.

The values are log_p_blank, log_p_non_blank, graph_score, the hash of the complete words, the prefix that the candidate
extends, and the edge of the new token (None if there is no new token).

It is a tuple because a search makes hundreds of candidates for each frame and keeps a few.
"""


class BeamDecoder:
    """Decodes a CTC model by prefix beam search. See `stream_asr.decoding.base.Decoder`.

    Args:
        labels: the model's tokens.
        frame_samples: length of a frame in samples at 16 kHz.
        graph: scores of token sequences.
        config: beam widths, pruning thresholds and times.
    """

    def __init__(self, labels: Labels, frame_samples: int, graph: TokenGraph, config: BeamConfig) -> None:
        self.labels = labels
        self.frame_samples = frame_samples
        self.config = config
        self.settle_frames = ms_to_frames(config.settle_ms, frame_samples)
        self._graph = graph

    def start(self, frame: int) -> BeamState:
        """Return the state of an utterance whose first frame is ``frame`` on the absolute grid."""
        # Replaced between utterances only: recombination needs one node for each context during a search.
        if len(self._graph) > self.config.max_graph_nodes:
            self._graph = self._graph.empty_copy()
        empty = _Prefix(self._graph.root, -1, 0.0, -inf, 0.0, EMPTY_HISTORY, frame, frame, 0.0, 0.0, 0, 0.0)
        return BeamState(self, self._graph, (empty,), frame)

    def search(
        self, graph: TokenGraph, beam: tuple[_Prefix, ...], log_probs: FloatArray, start_frame: int, width: int
    ) -> tuple[_Prefix, ...]:
        """Advance the beam by some frames.

        Args:
            graph: the graph of the prefixes' nodes.
            beam: prefixes, best first.
            log_probs: natural logarithms, float32, shape (frames, tokens).
            start_frame: index of the first frame on the absolute grid.
            width: number of prefixes kept after each frame.

        Returns:
            The best prefixes, best first.
        """
        if not len(log_probs):
            return beam
        blank = self.labels.blank
        considered = log_probs > self.config.min_token_log_prob
        considered[np.arange(len(considered)), log_probs.argmax(axis=1)] = True
        considered[:, blank] = False
        for index, blank_log_prob in enumerate(log_probs[:, blank].tolist()):
            tokens = np.flatnonzero(considered[index]).tolist()
            if tokens:
                token_log_probs = list(zip(tokens, log_probs[index, tokens].tolist(), strict=True))
                beam = _advance(graph, beam, blank_log_prob, token_log_probs, start_frame + index, width, self.config)
            elif any(prefix.log_p_non_blank > -inf for prefix in beam):
                # Only the blank: all scores change by the same amount, which need not be added.
                beam = tuple(
                    replace(
                        prefix, log_p_blank=_log_add(prefix.log_p_blank, prefix.log_p_non_blank), log_p_non_blank=-inf
                    )
                    for prefix in beam
                )
        return beam


@dataclass(frozen=True, slots=True, eq=False)
class BeamState:
    """The beam after some frames. See `stream_asr.decoding.base.DecoderState`.

    Attributes:
        graph: the graph of the prefixes' nodes.
        beam: at least one prefix, best first.
    """

    decoder: BeamDecoder
    graph: TokenGraph
    beam: tuple[_Prefix, ...]
    stop_frame: int

    @property
    def stable(self) -> str:
        """The complete words that all prefixes in the beam have in common."""
        return stable_text(history.texts() for history in {prefix.history for prefix in self.beam})

    def commit(self, log_probs: FloatArray, stop_frame: int) -> BeamState:
        """Return the state after the frames of a commit window."""
        decoder = self.decoder
        log_probs = decoder.labels.pad(log_probs, stop_frame - self.stop_frame)
        beam = decoder.search(self.graph, self.beam, log_probs, self.stop_frame, decoder.config.width)
        remaining = settle([prefix.history for prefix in beam], stop_frame - decoder.settle_frames)
        return BeamState(decoder, self.graph, tuple(beam[index] for index in remaining), stop_frame)

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        """Return the hypothesis after some more frames, found with the narrower beam of previews."""
        width = self.decoder.config.preview_width
        beam = self.decoder.search(self.graph, self.beam[:width], log_probs, self.stop_frame, width)
        return self._hypothesis(beam[0])

    def finish(self) -> Hypothesis:
        """Return the hypothesis if no frames follow."""
        return self._hypothesis(max(self.beam, key=lambda prefix: prefix.score + self.graph.final_score(prefix.node)))

    def _hypothesis(self, prefix: _Prefix) -> Hypothesis:
        history, node = prefix.history, prefix.node
        complete = history.word_count
        if node.partial_word:
            confidence = (prefix.peak_sum + prefix.peak) / prefix.token_count
            history = history.append(node.partial_word, prefix.first_frame, prefix.stop_frame, confidence)
        return Hypothesis(history.words(self.decoder.frame_samples), complete, self.graph.is_fragment(node))


def _advance(
    graph: TokenGraph,
    beam: tuple[_Prefix, ...],
    blank_log_prob: float,
    token_log_probs: list[tuple[int, float]],
    frame: int,
    width: int,
    config: BeamConfig,
) -> tuple[_Prefix, ...]:
    """Advance the beam by one frame.

    Args:
        blank_log_prob: log-probability of the blank.
        token_log_probs: the tokens to consider, each with its log-probability.
        frame: index of the frame on the absolute grid.
        width: number of prefixes to keep.
    """
    candidates: dict[_Key, _Candidate] = {}
    max_gap = config.max_score_gap
    best_log_prob = max(blank_log_prob, *(log_prob for _, log_prob in token_log_probs))
    min_score = beam[0].score + best_log_prob - max_gap
    min_score_before_edge = min_score - config.max_token_gain
    get_edge = graph.edge
    for prefix in beam:
        log_p_total, log_p_non_blank = _log_add(prefix.log_p_blank, prefix.log_p_non_blank), -inf
        graph_score, text_hash, edges = prefix.graph_score, prefix.history.text_hash, prefix.node.edges
        for token, log_prob in token_log_probs:
            if token == prefix.token:
                log_p_non_blank = prefix.log_p_non_blank + log_prob  # a longer run of the last token
                extended = prefix.log_p_blank + log_prob  # the same token once more, after a blank
            else:
                extended = log_p_total + log_prob
            if extended + graph_score < min_score_before_edge:
                continue
            edge = edges.get(token) or get_edge(prefix.node, token)
            extended_graph_score = graph_score + edge.score
            if extended + extended_graph_score >= min_score:
                extended_hash = prefix.history.hash_after(edge.words) if edge.words else text_hash
                candidate = (-inf, extended, extended_graph_score, extended_hash, prefix, edge)
                _add_candidate(candidates, (edge.target, token), candidate)
        unchanged = (log_p_total + blank_log_prob, log_p_non_blank, graph_score, text_hash, prefix, None)
        _add_candidate(candidates, (prefix.node, prefix.token), unchanged)
    scored = [(_score(candidate), key, candidate) for key, candidate in candidates.items()]
    best = nlargest(width, scored, key=itemgetter(0))
    log_prob_of = dict(token_log_probs)
    return tuple(
        _make_prefix(score, key, candidate, frame, log_prob_of.get(key[1], -inf))
        for score, key, candidate in best
        if score >= best[0][0] - max_gap
    )


def _add_candidate(candidates: dict[_Key, _Candidate], key: _Key, new: _Candidate) -> None:
    """Add a candidate, and recombine it with a candidate of the same future.

    Probabilities of candidates with the same text add up. Of two texts, the better one stays.
    """
    old = candidates.setdefault(key, new)
    if old is new:
        return
    old_log_p_blank, old_log_p_non_blank, old_graph_score, old_hash, _, _ = old
    new_log_p_blank, new_log_p_non_blank, new_graph_score, new_hash, _, _ = new
    new_best = max(new_log_p_blank, new_log_p_non_blank) + new_graph_score
    better = new if new_best > max(old_log_p_blank, old_log_p_non_blank) + old_graph_score else old
    if new_hash == old_hash:
        _, _, graph_score, text_hash, parent, edge = better
        log_p_blank = _log_add(new_log_p_blank, old_log_p_blank)
        log_p_non_blank = _log_add(new_log_p_non_blank, old_log_p_non_blank)
        better = (log_p_blank, log_p_non_blank, graph_score, text_hash, parent, edge)
    candidates[key] = better


def _score(candidate: _Candidate) -> float:
    log_p_blank, log_p_non_blank, graph_score, _, _, _ = candidate
    return _log_add(log_p_blank, log_p_non_blank) + graph_score


def _make_prefix(score: float, key: _Key, candidate: _Candidate, frame: int, log_prob: float) -> _Prefix:
    """Make a prefix of a candidate: find the times and the confidence of its words.

    Args:
        score: total score of the candidate.
        key: node and last token of the candidate.
        frame: index of the frame on the absolute grid.
        log_prob: log-probability of the last token in this frame; -inf if it was not considered.
    """
    node, token = key
    log_p_blank, log_p_non_blank, graph_score, _, parent, edge = candidate
    history, first, stop = parent.history, parent.first_frame, parent.stop_frame
    peak_sum, peak, token_count = parent.peak_sum, parent.peak, parent.token_count
    if edge is None:
        if log_p_non_blank > log_p_blank and node.partial_word:
            stop, peak = frame + 1, max(peak, min(1.0, exp(log_prob)))
    else:
        for word in edge.words:
            history = history.append(word, first, stop, (peak_sum + peak) / max(1, token_count))
            peak_sum, peak, token_count, first, stop = 0.0, 0.0, 0, frame, frame + 1
        if node.partial_word:
            if not token_count:
                first = frame
            peak_sum, peak, token_count, stop = peak_sum + peak, min(1.0, exp(log_prob)), token_count + 1, frame + 1
    return _Prefix(
        node, token, log_p_blank, log_p_non_blank, graph_score, history, first, stop, peak_sum, peak, token_count, score
    )


def _log_add(first: float, second: float) -> float:
    """Return ``log(exp(first) + exp(second))``."""
    if first < second:
        first, second = second, first
    return first if second == -inf else first + log1p(exp(second - first))
