"""The greedy way to words: the best output of each frame, whatever its neighbours are."""

from __future__ import annotations

from dataclasses import dataclass

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.base import Hypothesis
from stream_asr.decoding.ctc import BestPath, decode


@dataclass(frozen=True, slots=True)
class GreedyDecoder:
    """Makes decodings of one model's frames.

    Args:
        labels, frame_samples: of the model.
    """

    labels: Labels
    frame_samples: int

    def start(self, frame: int) -> GreedyState:
        return GreedyState(self, BestPath.empty(frame))


@dataclass(frozen=True, slots=True)
class GreedyState:
    """See `stream_asr.decoding.base.DecoderState`.

    The frames are collapsed once, joined, so that no letter at a join is lost or doubled.
    """

    decoder: GreedyDecoder
    path: BestPath

    @property
    def stop_frame(self) -> int:
        return self.path.stop_frame

    @property
    def stable(self) -> str:
        return self.finish().complete_text

    def commit(self, log_probs: FloatArray, stop_frame: int) -> GreedyState:
        labels = self.decoder.labels
        path = self.path.joined(BestPath.best(log_probs, self.stop_frame))
        return GreedyState(self.decoder, path.padded(stop_frame, labels.blank))

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        return self.commit(log_probs, self.stop_frame + len(log_probs)).finish()

    def finish(self) -> Hypothesis:
        return decode(self.path, self.decoder.labels, self.decoder.frame_samples)
