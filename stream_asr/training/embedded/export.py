"""From the weights that training left to the folder that ships: half precision, and all that loading needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2FeatureExtractor

from stream_asr.acoustic.moonshine_ctc import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.config import SAMPLE_RATE
from stream_asr.training.embedded.settings import LABELS
from stream_asr.training.vocabulary import letters_tokenizer


def export(weights: Path, folder: Path) -> None:
    """Write ``weights``, which `stream_asr.training.embedded.train` left, as a Transformers checkpoint."""
    model: Any = MoonshineForCTC(MoonshineCTCConfig(vocab_size=len(LABELS.pieces)))
    model.load_state_dict(torch.load(weights, weights_only=True))
    features = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True)
    for saved in (model.half(), features, letters_tokenizer("".join(LABELS.pieces[2:]))):
        saved.save_pretrained(folder)
