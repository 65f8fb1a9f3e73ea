"""Model families that can be fine-tuned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
