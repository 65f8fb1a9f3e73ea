"""Choose a decoder: beam search with a language model or hotwords, greedy decoding otherwise."""

from __future__ import annotations

from stream_asr.acoustic.labels import Labels
from stream_asr.config import BeamConfig
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.beam import BeamDecoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.decoding.hotwords import HotwordList, compile_hotwords
from stream_asr.decoding.token_graph import TokenGraph
from stream_asr.errors import InputError
from stream_asr.lm.ngram import NgramModel


def make_decoder(
    labels: Labels,
    frame_samples: int,
    config: BeamConfig,
    language_model: NgramModel | None = None,
    hotwords: HotwordList = (),
) -> Decoder:
    """Make the decoder of a recognizer.

    Args:
        labels: the acoustic model's tokens.
        frame_samples: length of a frame in samples at 16 kHz.
        config: settings of beam search.
        language_model: None for none.
        hotwords: words and phrases with a bonus.

    Returns:
        A beam search decoder if there is a language model or a hotword, else a greedy decoder.

    Raises:
        InputError: the acoustic model cannot write the hotwords or the words of the language model.
    """
    letters = frozenset("".join(labels.tokens).lower()) - {" "}
    compiled = compile_hotwords(hotwords, letters, config)
    if language_model is None and not compiled:
        return GreedyDecoder(labels, frame_samples)
    if not any(" " in token for token in labels.tokens):
        raise InputError("this model does not mark where words end, so it cannot use a language model or hotwords")
    if language_model is not None:
        lm_letters = frozenset("".join(language_model.vocabulary))
        foreign = lm_letters - letters
        if len(foreign) > config.max_foreign_letters_ratio * len(lm_letters):
            raise InputError(
                f"the language model has letters that the acoustic model does not write: "
                f"{' '.join(sorted(foreign)[:10])}; is it a model of another language?"
            )
    return BeamDecoder(labels, frame_samples, TokenGraph(labels, config, language_model, compiled), config)
