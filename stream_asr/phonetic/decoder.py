"""Words by their sounds, for models that hear phones: see `stream_asr.phonetic.search`."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from stream_asr.arrays import FloatArray
from stream_asr.config import PhoneticConfig, ms_to_frames
from stream_asr.ctc import Frames, Hypothesis, Labels
from stream_asr.lm.lexicon import Lexicon
from stream_asr.lm.ngram import START, NgramModel
from stream_asr.phonetic.agreement import BytePairs, Trails, beginning
from stream_asr.phonetic.hearings import Ended, Hearings
from stream_asr.phonetic.search import AHEAD_FRAMES, Search, Words, worth_ahead
from stream_asr.phonetic.tree import ROOT, SoundTree
from stream_asr.said import settled, stable_text, text_after, timed

_REMEMBERED_FRAMES = 96
"""Of what was written: longer than any word, with frames of 48 ms."""


class PhoneticDecoder:
    """Makes decodings of one model's frames.

    Args:
        labels: of the model; it hears the phones of the lexicon, and maybe more.
        frame_samples: length of a frame at 16 kHz.
        model: the language model.
        lexicon: how its words sound.
        config: weights, widths and times.
    """

    def __init__(
        self, labels: Labels, frame_samples: int, model: NgramModel, lexicon: Lexicon, config: PhoneticConfig
    ) -> None:
        self.labels, self.frame_samples, self.config = labels, frame_samples, config
        self.words = Words(model, SoundTree(lexicon, model, labels.phones), BytePairs(labels))
        self._ahead = worth_ahead(self.words.tree, config)
        self.settle_frames = ms_to_frames(config.settle_ms, frame_samples)

    def start(self, frame: int) -> PhoneticDecoding:
        """Nothing heard yet; the first frame to come is ``frame`` of the absolute grid."""
        nothing = Hearings.nothing(self.words.model.after((), START), frame)
        recent = Frames(frame, np.zeros((0, sum(self.labels.sizes)), dtype=np.float32))
        return PhoneticDecoding(self, nothing, recent, frame, {text_after(None): beginning(frame)})

    def search(self, recent: Frames, trails: Trails) -> Search:
        """Of the newest frames."""
        return Search(self.words, self._ahead, self.config, self.labels, recent, trails)


@dataclass(frozen=True, slots=True, eq=False)
class PhoneticDecoding:
    """See `stream_asr.decoding.Decoding`.

    The search lags some frames behind, because sounds are weighed with what is written a little later.

    Attributes:
        hearings: never empty, the best comes first.
        recent: the newest frames, of which those from ``searched`` on are still to be searched.
        trails: of the hypotheses' texts.
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
        return stable_text(past.said for past in self.hearings.pasts)

    def keep(self, log_probs: FloatArray, stop_frame: int) -> PhoneticDecoding:
        decoder = self.decoder
        recent = self._with(decoder.labels.padded(log_probs, stop_frame - self.stop_frame))
        searched = max(self.searched, stop_frame - AHEAD_FRAMES)
        trails = dict(self.trails)
        search = decoder.search(recent, trails)
        hearings = search.run(self.hearings, self.searched, searched, decoder.config.width)
        places = settled([past.said for past in hearings.pasts], stop_frame - decoder.settle_frames)
        if len(places) < len(hearings):
            hearings = hearings.at(places)
        needed = {text_after(past.said) for past in hearings.pasts}
        kept = {text: trail for text, trail in trails.items() if text in needed}
        return PhoneticDecoding(decoder, hearings, recent.since(searched - _REMEMBERED_FRAMES), searched, kept)

    def glimpse(self, log_probs: FloatArray) -> Hypothesis:
        # What is found out about frames that may be thrown away is thrown away with them.
        search = self.decoder.search(self._with(log_probs), dict(self.trails))
        width, stop = self.decoder.config.preview_width, self.stop_frame + len(log_probs)
        likeliest = self.hearings.at(list(range(min(width, len(self.hearings)))))
        hearings = search.run(likeliest, self.searched, stop, width)
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
