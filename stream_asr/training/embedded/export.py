"""From the weights that training left to the folder that ships: half precision, and all that loading needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from stream_asr.acoustic.moonshine_ctc import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.config import SAMPLE_RATE
from stream_asr.training.embedded.settings import LABELS


def export(weights: Path, folder: Path) -> None:
    """Write ``weights``, which `stream_asr.training.embedded.train` left, as a Transformers checkpoint."""
    model: Any = MoonshineForCTC(MoonshineCTCConfig(vocab_size=len(LABELS.pieces)))
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.half().save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True).save_pretrained(
        folder
    )
    symbols = ["<pad>", "|", *LABELS.pieces[2:]]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({symbol: index for index, symbol in enumerate(symbols)}), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(
        str(vocabulary), bos_token=None, eos_token=None, unk_token=None, pad_token="<pad>", word_delimiter_token="|"
    )
    tokenizer.save_pretrained(folder)
