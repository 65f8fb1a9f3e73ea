"""Words by their sounds, for models that hear phones: see `stream_asr.phonetic_search`."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from operator import itemgetter

import numpy as np

from stream_asr.agreement import BytePairs, Trails, beginning
from stream_asr.arrays import FloatArray
from stream_asr.config import PhoneticConfig, ms_to_samples
from stream_asr.ctc import Frames, Hypothesis, Labels
from stream_asr.hearing import Ended, Hearings
from stream_asr.lm.lexicon import Lexicon
from stream_asr.lm.ngram import START, NgramModel
from stream_asr.lm.sounds import ROOT, SoundTree
from stream_asr.phonetic_search import AHEAD_FRAMES, Search, Words, worth_ahead
from stream_asr.said import common, ended_by, first_words, in_order, text_after, timed

_REMEMBERED_FRAMES = 96
"""Of what was written: longer than any word."""


class PhoneticDecoder:
    """Makes decodings of one model's frames.

    Args:
        labels: of the model; it hears the phones of the lexicon.
        frame_samples: length of a frame at 16 kHz.
        model: the language model.
        lexicon: how its words sound.
        config: weights, widths and times.
    """

    def __init__(
        self, labels: Labels, frame_samples: int, model: NgramModel, lexicon: Lexicon, config: PhoneticConfig
    ) -> None:
        self.labels, self.frame_samples, self.config = labels, frame_samples, config
        self.words = Words(model, SoundTree(lexicon, model), BytePairs(labels))
        self._ahead = worth_ahead(self.words.tree, config)
        self.settle_frames = -(-ms_to_samples(config.settle_ms) // frame_samples)

    def start(self, frame: int) -> PhoneticDecoding:
        """Nothing heard yet; the first frame to come is ``frame`` of the absolute grid."""
        nothing = Hearings.nothing(self.words.model.after((), START), frame)
        labels = self.labels
        outputs = len(labels.pieces) + labels.phone_frames * (1 + len(labels.phones))
        recent = Frames(frame, np.zeros((0, outputs), dtype=np.float32))
        return PhoneticDecoding(self, nothing, recent, frame, {text_after(None): beginning(frame)})

    def search(self, recent: Frames, trails: Trails) -> Search:
        """Of the newest frames."""
        return Search(self.words, self._ahead, self.config, self.labels, self.frame_samples, recent, trails)

    def padded(self, log_probs: FloatArray, frames: int) -> FloatArray:
        """With frames of nothing after it, up to that many."""
        silence = np.full((max(0, frames - len(log_probs)), log_probs.shape[1]), -inf, dtype=np.float32)
        silence[:, self.labels.blank] = silence[:, len(self.labels.pieces) :: 1 + len(self.labels.phones)] = 0
        return np.concatenate([log_probs, silence]) if len(silence) else log_probs


@dataclass(frozen=True, slots=True, eq=False)
class PhoneticDecoding:
    """See `stream_asr.decoding.Decoding`.

    The search lags some frames behind, because sounds are weighed with what is written a little later.

    Attributes:
        hearings: never empty, the best comes first.
        recent: the newest frames, of which those from ``searched`` on are still to be searched.
        trails: of the hypotheses' texts, and of those texts without their last word.
    """

    decoder: PhoneticDecoder
    hearings: Hearings
    recent: Frames
    searched: int
    trails: Trails

    @property
    def stop_frame(self) -> int:
        return self.recent.start_frame + len(self.recent.log_probs)

    @property
    def stable(self) -> str:
        return " ".join(said.word for said in in_order(common(past.said for past in self.hearings.pasts)))

    def keep(self, log_probs: FloatArray, stop_frame: int) -> PhoneticDecoding:
        decoder = self.decoder
        recent = self._with(decoder.padded(log_probs, stop_frame - self.stop_frame))
        searched = max(self.searched, stop_frame - AHEAD_FRAMES)
        trails = dict(self.trails)
        search = decoder.search(recent, trails)
        hearings = search.run(self.hearings, self.searched, searched, decoder.config.width)
        settled = ended_by(hearings.pasts[0].said, stop_frame - decoder.settle_frames)
        if settled is not None:
            # A question left open for that long is decided, so that stable text does not wait for its answer.
            beginnings = (text_after(first_words(past.said, settled.count)) for past in hearings.pasts)
            hearings = hearings.at([at for at, text in enumerate(beginnings) if text == settled.text])
        needed = {text_after(past.said) for past in hearings.pasts}
        needed |= {text_after(past.said.before) for past in hearings.pasts if past.said is not None}
        kept = {text: trail for text, trail in trails.items() if text in needed}
        return PhoneticDecoding(decoder, hearings, recent.since(searched - _REMEMBERED_FRAMES), searched, kept)

    def glimpse(self, log_probs: FloatArray) -> Hypothesis:
        # What is found out about frames that may be thrown away is thrown away with them.
        search = self.decoder.search(self._with(log_probs), dict(self.trails))
        width, stop = self.decoder.config.preview_width, self.stop_frame + len(log_probs)
        beginning = self.hearings.at(list(range(min(width, len(self.hearings)))))
        hearings = search.run(beginning, self.searched, stop, width)
        # As if all of them ended here: those in the middle of a long word have yet to pay for it.
        return self._hypothesis(search, hearings, _ends(search, hearings, stop, begun=True))

    def finish(self) -> Hypothesis:
        stop = self.stop_frame
        search = self.decoder.search(self.recent, dict(self.trails))
        hearings = search.run(self.hearings, self.searched, stop, self.decoder.config.width)
        ends = _ends(search, hearings, stop, begun=False) or _ends(search, hearings, stop, begun=True)
        return self._hypothesis(search, hearings, ends)

    def _with(self, log_probs: FloatArray) -> Frames:
        if not len(log_probs):
            return self.recent
        return Frames(self.recent.start_frame, np.concatenate([self.recent.log_probs, log_probs]))

    def _hypothesis(self, search: Search, hearings: Hearings, ends: list[tuple[float, Ended]]) -> Hypothesis:
        """The best text with the word after it; without one where nothing can be its end."""
        at, said = 0, hearings.pasts[0].said
        if ends:
            _, ending = max(ends, key=itemgetter(0))
            at, said = ending.hearing, search.past(hearings, ending).said
        before, node = hearings.pasts[at].said, int(hearings.nodes[at])
        fragment = node < 0 or (node > ROOT and not self.decoder.words.tree.ends[node])
        return Hypothesis(timed(said, self.decoder.frame_samples), before.count if before is not None else 0, fragment)


def _ends(search: Search, hearings: Hearings, stop: int, *, begun: bool) -> list[tuple[float, Ended]]:
    """What each text may end with before a frame, and the score with it; see `Search.endings`."""
    return [
        (float(hearings.scores[at] - hearings.worth[at]) + ending.worth, ending)
        for at in range(len(hearings))
        for ending in search.endings(hearings, at, stop, begun=begun)
    ]
