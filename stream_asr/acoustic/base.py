"""What the engine needs of an acoustic model; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stream_asr.arrays import FloatArray
from stream_asr.ctc import Labels


class AcousticModel(Protocol):
    """A CTC model whose frame k covers samples from ``k * frame_samples`` of a window on."""

    @property
    def name(self) -> str:
        """How the user called it."""

    @property
    def frame_samples(self) -> int:
        """Samples from one output frame to the next."""

    @property
    def longest_samples(self) -> int | None:
        """The longest window it takes; None for any."""

    @property
    def labels(self) -> Labels:
        """What its outputs spell."""

    @property
    def pads(self) -> bool:
        """Windows of different lengths may share a batch."""

    @property
    def batches_kept_windows(self) -> bool:
        """Windows that decide the text that stays may share a batch.

        False where the company of other windows changes the rounding and running them one by one costs
        little, as on a processor. True on a GPU, at the price that two letters of equal probability may
        come out either way.
        """

    @property
    def most_windows(self) -> int | None:
        """Windows that gain by being run together; None for as many as there are."""

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """Run one batch.

        Args:
            windows: float32, shape (samples,), whole multiples of ``frame_samples``; of one length unless
                the model `pads`.

        Returns:
            For each window its natural log-probabilities, float32, shape (frames, vocabulary).
        """
