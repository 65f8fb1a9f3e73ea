"""Which decoder suits: greedy, or a search when there is something to weigh the words with."""

from __future__ import annotations

from stream_asr.acoustic.labels import Labels
from stream_asr.config import BeamConfig
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.beam import BeamDecoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.decoding.hotwords import HotwordList, compiled
from stream_asr.decoding.token_graph import TokenGraph
from stream_asr.errors import InputError
from stream_asr.lm.ngram import NgramModel

_STRANGE_LETTERS = 0.25
"""A language model more of whose letters than this share are foreign to the acoustic model is one for another."""


def make_decoder(
    labels: Labels,
    frame_samples: int,
    config: BeamConfig,
    language_model: NgramModel | None = None,
    hotwords: HotwordList = (),
) -> Decoder:
    """The decoder of a recognizer.

    Args:
        labels, frame_samples: of the acoustic model.
        language_model: None for none.
        hotwords: none makes the decoder greedy, if there is no language model either.

    Raises:
        InputError: the acoustic model cannot write the words; the message says why.
    """
    letters = frozenset("".join(labels.tokens).lower()) - {" "}
    listed = compiled(hotwords, letters, config.hotword_bonus)
    if language_model is None and not listed:
        return GreedyDecoder(labels, frame_samples)
    if not any(" " in piece for piece in labels.tokens):
        raise InputError("this model does not mark where words end, so a language model or hotwords cannot help it")
    if language_model is not None:
        needed = frozenset("".join(language_model.vocabulary))
        strange = needed - letters
        if len(strange) > _STRANGE_LETTERS * len(needed):
            raise InputError(
                f"the language model has letters that the acoustic model does not write: "
                f"{' '.join(sorted(strange)[:10])}; is it one of another language?"
            )
    return BeamDecoder(labels, frame_samples, TokenGraph(labels, config, language_model, listed), config)
