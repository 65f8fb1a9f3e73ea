"""Model families that can be fine-tuned, and a small attention decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from string import ascii_letters

from stream_asr.acoustic.base import Vocabulary
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint
from tests.support.checkpoints import (
    save_data2vec,
    save_hubert,
    save_moonshine_ctc,
    save_parakeet,
    save_wav2vec2_bert,
    save_wav2vec2_group,
    save_wav2vec2_layer,
    save_wavlm,
)
from tests.support.decoders import SMALL, make_checkpoint

MODEL_FAMILIES: dict[str, Callable[[Path], None]] = {
    "wav2vec2 group norm": save_wav2vec2_group,
    "wav2vec2 layer norm": save_wav2vec2_layer,
    "hubert": save_hubert,
    "wavlm": save_wavlm,
    "data2vec": save_data2vec,
    "wav2vec2-bert": save_wav2vec2_bert,
    "parakeet": save_parakeet,
    "moonshine": save_moonshine_ctc,
}
"""Save a small checkpoint of each family."""


def make_letter_decoder() -> DecoderCheckpoint:
    """Create a decoder for `save_moonshine_ctc` whose tokens are letters and punctuation."""
    pieces = (b"", b"", b"", *(character.encode() for character in f"{ascii_letters} .,!?'"))
    checkpoint = make_checkpoint(sizes=replace(SMALL, tokens=len(pieces)))
    return replace(checkpoint, vocabulary=Vocabulary(pieces, 2))
