"""Greedy decoding: the most probable token of each frame."""

from __future__ import annotations

from dataclasses import dataclass

from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.decoding.agreement import stable_text
from stream_asr.decoding.base import Hypothesis
from stream_asr.decoding.ctc import BestPath, decode


@dataclass(frozen=True, slots=True)
class GreedyDecoder:
    """Decodes the best path of a CTC model. See `stream_asr.decoding.base.Decoder`.

    Attributes:
        labels: the model's tokens.
        frame_samples: length of a frame in samples at 16 kHz.
    """

    labels: Labels
    frame_samples: int

    def start(self, frame: int) -> GreedyState:
        """Return the state of an utterance whose first frame is ``frame`` on the absolute grid."""
        return GreedyState(self, BestPath.empty(frame))


@dataclass(frozen=True, slots=True)
class GreedyState:
    """The best path so far. See `stream_asr.decoding.base.DecoderState`.

    The frames of all windows are joined before they are collapsed, so that no letter is lost or doubled at a join.
    """

    decoder: GreedyDecoder
    path: BestPath

    @property
    def stop_frame(self) -> int:
        """Index of the next frame on the stream's absolute grid."""
        return self.path.stop_frame

    @property
    def stable(self) -> str:
        """The complete words of the path: the only hypothesis agrees with itself."""
        return stable_text([self.finish().complete_words])

    def commit(self, log_probs: FloatArray, stop_frame: int) -> GreedyState:
        """Return the state after the frames of a commit window."""
        path = self.path.append(BestPath.from_log_probs(log_probs, self.stop_frame))
        return GreedyState(self.decoder, path.pad(stop_frame, self.decoder.labels.blank))

    def preview(self, log_probs: FloatArray) -> Hypothesis:
        """Return the hypothesis after some more frames."""
        return self.commit(log_probs, self.stop_frame + len(log_probs)).finish()

    def finish(self) -> Hypothesis:
        """Return the hypothesis if no frames follow."""
        return decode(self.path, self.decoder.labels, self.decoder.frame_samples)
