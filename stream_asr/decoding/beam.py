"""CTC prefix beam search: the likeliest text rather than the likeliest path, with a language model and hotwords.

Our own, in plain Python, for what the streams promise and no library that installs everywhere offers: its state
goes on frame by frame, can be copied for a preview at no cost, says which words can no longer change, and
carries each word's frames.

Two texts with the same future (`Node`) are one hypothesis: the better one wins, for good. So alternatives die
out by themselves some words later, and what is left in common is stable.

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
from stream_asr.decoding.agreement import WordHistory, extended, settled, stable_text, text_after, timed
from stream_asr.decoding.base import Hypothesis
from stream_asr.decoding.token_graph import Edge, Node, TokenGraph

_LEAST_LOG_PROB = -5.0
"""Outputs less likely than this in a frame are not followed."""

_WORST = 12.0
"""Nats behind the best at which a hypothesis is given up."""

_REMEMBERED = 100_000
"""Nodes of the graph kept from one utterance to the next."""

_GENEROUS = 8.0
"""The most that an output may add to a text's worth; less likely ones are not looked up."""


@dataclass(slots=True, eq=False)
class _Beam:
    """One text. Times and confidences are those of its best alignment.

    Attributes:
        node, output: where it is in the graph, by which output of the model.
        blank, sounding: log-probabilities of its alignments that end in a blank and in ``output``.
        worth: of the text, in nats: language model, bonuses, hotwords.
        said: its whole words.
        first_frame, stop_frame: of the word being spelt.
        peaks, peak, outputs: of that word: the highest posteriors of its finished outputs added up, of the
            newest one, and how many there are.
        score: of all.
    """

    node: Node
    output: int
    blank: float
    sounding: float
    worth: float
    said: WordHistory | None
    first_frame: int
    stop_frame: int
    peaks: float
    peak: float
    outputs: int
    score: float


_Offer: TypeAlias = "tuple[float, float, float, int, _Beam, Edge | None]"
"""What may become a `_Beam`: its blank, sounding and worth, the hash of its text, parent and edge (None for staying).

A bare tuple, because a search makes hundreds a frame and keeps a few.
"""


class BeamDecoder:
    """Makes decodings of one model's frames.

    Args:
        labels: of the model.
        frame_samples: length of a frame at 16 kHz.
        spelling: what texts are worth.
        config: widths and times.
    """

    def __init__(self, labels: Labels, frame_samples: int, spelling: TokenGraph, config: BeamConfig) -> None:
        self.labels = labels
        self._spelling = spelling
        self.frame_samples = frame_samples
        self.width, self.preview_width = config.width, config.preview_width
        self.settle_frames = ms_to_frames(config.settle_ms, frame_samples)

    def start(self, frame: int) -> BeamState:
        """Nothing heard yet; the first frame to come is ``frame`` of the absolute grid."""
        # Between utterances, never within one: what is one node to a search must remain one.
        if len(self._spelling) > _REMEMBERED:
            self._spelling = self._spelling.fresh()
        nothing = _Beam(self._spelling.root, -1, 0.0, -inf, 0.0, None, frame, frame, 0.0, 0.0, 0, 0.0)
        return BeamState(self, self._spelling, (nothing,), frame)

    def search(
        self, spelling: TokenGraph, beams: tuple[_Beam, ...], log_probs: FloatArray, start_frame: int, width: int
    ) -> tuple[_Beam, ...]:
        """The best texts, best first, that go on from ``beams``.

        Args:
            spelling: that their nodes are of.
            log_probs: natural logarithms, float32, shape (frames, pieces).
            start_frame: place of the first of them on the absolute grid.
            width: hypotheses kept after each frame.
        """
        if not len(log_probs):
            return beams
        silent = self.labels.blank
        likely = log_probs > _LEAST_LOG_PROB
        likely[np.arange(len(likely)), log_probs.argmax(axis=1)] = True
        likely[:, silent] = False
        for at, blank in enumerate(log_probs[:, silent].tolist()):
            outputs = np.flatnonzero(likely[at]).tolist()
            if outputs:
                options = list(zip(outputs, log_probs[at, outputs].tolist(), strict=True))
                beams = _frame(spelling, beams, blank, options, start_frame + at, width)
            elif any(beam.sounding > -inf for beam in beams):
                # Nothing but the blank: no hypothesis gains on another, only their last letters fall silent.
                beams = tuple(replace(beam, blank=_added(beam.blank, beam.sounding), sounding=-inf) for beam in beams)
        return beams


def _frame(
    graph: TokenGraph,
    beams: tuple[_Beam, ...],
    blank: float,
    options: list[tuple[int, float]],
    frame: int,
    width: int,
) -> tuple[_Beam, ...]:
    """One frame further: the blank's log-probability, and those of the other outputs worth a look."""
    offers: dict[tuple[Node, int], _Offer] = {}
    likeliest = max(blank, *(log_prob for _, log_prob in options))
    floor = beams[0].score + likeliest - _WORST
    edge_of = graph.edge
    for beam in beams:
        total, text, sounding = _added(beam.blank, beam.sounding), text_after(beam.said), -inf
        for output, log_prob in options:
            if output == beam.output:
                sounding = beam.sounding + log_prob
                reached = beam.blank + log_prob  # once more, after a blank
            else:
                reached = total + log_prob
            if reached + beam.worth < floor - _GENEROUS:
                continue
            edge = beam.node.edges.get(output) or edge_of(beam.node, output)
            worth = beam.worth + edge.gain
            if reached + worth >= floor:
                longer = text_after(beam.said, edge.words) if edge.words else text
                _offer(offers, (edge.node, output), (-inf, reached, worth, longer, beam, edge))
        _offer(offers, (beam.node, beam.output), (total + blank, sounding, beam.worth, text, beam, None))
    scored = [(_score(offer), key, offer) for key, offer in offers.items()]
    best = nlargest(width, scored, key=itemgetter(0))
    log_prob_of = dict(options)
    return tuple(
        _grown(score, key[0], key[1], offer, frame, log_prob_of.get(key[1], -inf))
        for score, key, offer in best
        if score >= best[0][0] - _WORST
    )


def _offer(offers: dict[tuple[Node, int], _Offer], key: tuple[Node, int], new: _Offer) -> None:
    """Add a way to a hypothesis: alignments of the same text add up, of two texts only the better one stays."""
    old = offers.setdefault(key, new)
    if old is new:
        return
    old_blank, old_sounding, old_worth, old_text, _, _ = old
    new_blank, new_sounding, new_worth, new_text, _, _ = new
    better = new if max(new_blank, new_sounding) + new_worth > max(old_blank, old_sounding) + old_worth else old
    if new_text == old_text:
        _, _, worth, text, beam, edge = better
        better = (_added(new_blank, old_blank), _added(new_sounding, old_sounding), worth, text, beam, edge)
    offers[key] = better


def _score(offer: _Offer) -> float:
    blank, sounding, worth, _, _, _ = offer
    return _added(blank, sounding) + worth


def _grown(score: float, node: Node, output: int, offer: _Offer, frame: int, log_prob: float) -> _Beam:
    """The hypothesis that came of an offer, with the times and peaks of its word."""
    blank, sounding, worth, _, beam, edge = offer
    said, first, stop = beam.said, beam.first_frame, beam.stop_frame
    peaks, peak, outputs = beam.peaks, beam.peak, beam.outputs
    if edge is None:
        if sounding > blank and node.letters:
            stop, peak = frame + 1, max(peak, min(1.0, exp(log_prob)))
    else:
        for word in edge.words:
            said = extended(said, word, first, stop, (peaks + peak) / max(1, outputs))
            peaks, peak, outputs, first, stop = 0.0, 0.0, 0, frame, frame + 1
        if node.letters:
            if not outputs:
                first = frame
            peaks, peak, outputs, stop = peaks + peak, min(1.0, exp(log_prob)), outputs + 1, frame + 1
    return _Beam(node, output, blank, sounding, worth, said, first, stop, peaks, peak, outputs, score)


def _added(first: float, second: float) -> float:
    """The logarithm of a sum of probabilities."""
    if first < second:
        first, second = second, first
    return first if second == -inf else first + log1p(exp(second - first))


@dataclass(frozen=True, slots=True, eq=False)
class BeamState:
    """See `stream_asr.decoding.base.DecoderState`. ``beams`` are never empty, the best comes first."""

    decoder: BeamDecoder
    spelling: TokenGraph
    beams: tuple[_Beam, ...]
    stop_frame: int

    def commit(self, log_probs: FloatArray, stop_frame: int) -> BeamState:
        decoder = self.decoder
        log_probs = decoder.labels.padded(log_probs, stop_frame - self.stop_frame)
        beams = decoder.search(self.spelling, self.beams, log_probs, self.stop_frame, decoder.width)
        places = settled([beam.said for beam in beams], stop_frame - decoder.settle_frames)
        return BeamState(decoder, self.spelling, tuple(beams[place] for place in places), stop_frame)

    @property
    def stable(self) -> str:
        return stable_text(beam.said for beam in self.beams)

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        width = self.decoder.preview_width
        beams = self.decoder.search(self.spelling, self.beams[:width], log_probs, self.stop_frame, width)
        return self._hypothesis(beams[0])

    def finish(self) -> Hypothesis:
        return self._hypothesis(max(self.beams, key=lambda beam: beam.score + self.spelling.ending(beam.node)))

    def _hypothesis(self, beam: _Beam) -> Hypothesis:
        said, complete = beam.said, beam.said.count if beam.said is not None else 0
        if beam.node.letters:
            confidence = (beam.peaks + beam.peak) / beam.outputs
            said = extended(said, beam.node.letters, beam.first_frame, beam.stop_frame, confidence)
        return Hypothesis(timed(said, self.decoder.frame_samples), complete, self.spelling.is_fragment(beam.node))
