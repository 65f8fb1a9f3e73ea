"""Make the targets of an attention decoder from the transcripts of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stream_asr.decoding.token_encoding import UnknownCharacterError
from stream_asr.errors import InputError
from stream_asr.training.attention_targets import needs_hypothesis, written_text
from stream_asr.training.dataset import Dataset, Utterance
from stream_asr.training.progress import ProgressDisplay
from stream_asr.training.settings import FineTuneSettings
from stream_asr.training.trainable_two_pass import TrainableTwoPass


def encode_transcripts(
    utterances: Sequence[Utterance], model: TrainableTwoPass, settings: FineTuneSettings, display: ProgressDisplay
) -> tuple[Utterance, ...]:
    """Return utterances with tokens for the attention decoder.

    Transcripts without capitals or punctuation are transcribed by the decoder, to complete them, unless
    ``settings.verbatim``. The model must be in evaluation mode.

    Raises:
        InputError: the decoder cannot write a character of a transcript.
    """
    incomplete = [] if settings.verbatim else [item for item in utterances if needs_hypothesis(item.transcript)]
    hypotheses = _transcribe(incomplete, model, settings.batch_s, display) if incomplete else {}
    encoded = []
    for utterance in utterances:
        text = " ".join(utterance.transcript.split())
        if utterance in hypotheses:
            text = written_text(text, hypotheses[utterance])
        try:
            encoded.append(with_tokens(utterance, model.encode(text)))
        except UnknownCharacterError as error:
            raise InputError(f"{error}: {utterance.transcript[:60]!r}") from error
    return tuple(encoded)


def with_tokens(utterance: Utterance, tokens: Sequence[int]) -> Utterance:
    """Return an utterance with tokens for the attention decoder."""
    return replace(utterance, target=replace(utterance.target, tokens=tuple(tokens)))


def _transcribe(
    utterances: Sequence[Utterance], model: TrainableTwoPass, batch_s: float, display: ProgressDisplay
) -> dict[Utterance, str]:
    batches = Dataset(utterances, model, batch_s=batch_s)
    hypotheses: dict[Utterance, str] = {}
    for index, batch in enumerate(batches.epoch(0)):
        display.show_task("completing transcripts", index, batches.count(0))
        hypotheses.update(zip(batches.utterances_of(0, index), model.write(batch), strict=True))
    return hypotheses
