"""Which decoder suits: greedy, or a search, by letters or sounds, when there is something to weigh the words with."""

from __future__ import annotations

from stream_asr.beam import BeamDecoder
from stream_asr.config import BeamConfig, PhoneticConfig
from stream_asr.ctc import Labels
from stream_asr.decoding import Decoder
from stream_asr.errors import InputError
from stream_asr.greedy import GreedyDecoder
from stream_asr.lm.hotwords import HotwordList, Hotwords, compiled
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.spelling import Spelling
from stream_asr.phonetic.decoder import PhoneticDecoder

_STRANGE_LETTERS = 0.25
"""A language model more of whose letters than this share are foreign to the acoustic model is one for another."""


def make_decoder(
    labels: Labels,
    frame_samples: int,
    config: BeamConfig,
    language_model: NgramModel | None = None,
    hotwords: HotwordList = (),
    phonetic: PhoneticConfig | None = None,
) -> Decoder:
    """The decoder of a recognizer.

    Args:
        labels, frame_samples: of the acoustic model.
        language_model: None for none.
        hotwords: none makes the decoder greedy, if there is no language model either.
        phonetic: weights and widths of the search by sounds; None to search by letters.

    Raises:
        InputError: the acoustic model cannot write the words, or there is nothing to search by sounds with; the message
            says why.
    """
    letters = frozenset("".join(labels.pieces).lower()) - {" "}
    listed = compiled(hotwords, letters, config.hotword_bonus)
    if phonetic is not None:
        return _by_sound(labels, frame_samples, phonetic, language_model, listed)
    if language_model is None and not listed:
        return GreedyDecoder(labels, frame_samples)
    if not any(" " in piece for piece in labels.pieces):
        raise InputError("this model does not mark where words end, so a language model or hotwords cannot help it")
    if language_model is not None:
        needed = frozenset("".join(language_model.vocabulary))
        strange = needed - letters
        if len(strange) > _STRANGE_LETTERS * len(needed):
            raise InputError(
                f"the language model has letters that the acoustic model does not write: "
                f"{' '.join(sorted(strange)[:10])}; is it one of another language?"
            )
    return BeamDecoder(labels, frame_samples, Spelling(labels, config, language_model, listed), config)


def _by_sound(
    labels: Labels, frame_samples: int, config: PhoneticConfig, model: NgramModel | None, hotwords: Hotwords
) -> Decoder:
    if not labels.phones:
        raise InputError("this model hears no phones, so words cannot be searched by their sounds; embedded-en does")
    if model is None:
        raise InputError("the search by sounds needs a language model that knows how its words sound, as lm-en does")
    if model.lexicon is None or not model.lexicon.pronunciations:
        raise InputError(
            "the language model does not know how its words sound; "
            "stream-asr lm build --pronunciations makes one that does"
        )
    if strange := set(model.lexicon.phones) - set(labels.phones):
        raise InputError(
            f"the language model's words have sounds that the acoustic model does not know: "
            f"{' '.join(sorted(strange)[:10])}; it hears {' '.join(labels.phones)}"
        )
    if hotwords:
        raise InputError("nobody knows how hotwords sound, so the search by sounds cannot find them")
    return PhoneticDecoder(labels, frame_samples, model, model.lexicon, config)
