from __future__ import annotations

import string

import pytest

from stream_asr.acoustic.labels import Labels
from stream_asr.config import BeamConfig
from stream_asr.decoding.beam import BeamDecoder
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.greedy import GreedyDecoder
from stream_asr.errors import InputError
from stream_asr.lm.kneser_ney import estimate
from tests.support.lm import PARAGRAPHS

FRAME = 320
LABELS = Labels(("", " ", "'", *string.ascii_lowercase), blank=0)
WITHOUT_SPACES = Labels(("", "a", "b"), blank=0)
CONFIG = BeamConfig()
MODEL = estimate(PARAGRAPHS)


def test_language_model_or_hotwords_need_beam_search() -> None:
    assert isinstance(make_decoder(LABELS, FRAME, CONFIG, MODEL), BeamDecoder)
    assert isinstance(make_decoder(LABELS, FRAME, CONFIG, None, ["zebra"]), BeamDecoder)
    assert isinstance(make_decoder(LABELS, FRAME, CONFIG), GreedyDecoder)


def test_hotwords_of_weight_zero_do_not_need_beam_search() -> None:
    assert isinstance(make_decoder(LABELS, FRAME, CONFIG, None, {"zebra": 0.0}), GreedyDecoder)


def test_beam_search_needs_labels_with_word_boundaries() -> None:
    assert isinstance(make_decoder(WITHOUT_SPACES, FRAME, CONFIG), GreedyDecoder)
    with pytest.raises(InputError, match="where words end"):
        make_decoder(WITHOUT_SPACES, FRAME, CONFIG, MODEL)


def test_language_model_of_another_alphabet_is_rejected() -> None:
    russian = Labels(("", " ", *"абвгдежз"), blank=0)
    with pytest.raises(InputError, match="another language"):
        make_decoder(russian, FRAME, CONFIG, MODEL)
