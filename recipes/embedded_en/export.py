"""From the weights that training left to the folder that ships: half precision, and all that loading needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2FeatureExtractor

from recipes.embedded_en.units import Units
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.config import SAMPLE_RATE


def export(weights: Path, config: MoonshineCTCConfig, units: Units, folder: Path) -> None:
    """Write ``weights``, which `recipes.embedded_en.train` left, as a Transformers checkpoint."""
    model: Any = MoonshineForCTC(config)
    model.load_state_dict(torch.load(weights, weights_only=True))
    features = Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True)
    for saved in (model.half(), features, units.tokenizer):
        saved.save_pretrained(folder)
