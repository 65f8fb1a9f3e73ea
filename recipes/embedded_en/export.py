"""Write the trained weights as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2FeatureExtractor

from recipes.embedded_en.tokenizer import SubwordTokenizer
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, save_decoder
from stream_asr.acoustic.moonshine.decoder_export import save_decoder_graphs
from stream_asr.acoustic.moonshine.onnx_export import save_graphs
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.config import SAMPLE_RATE


def export_model(
    weights: Path,
    config: MoonshineCTCConfig,
    tokenizer: SubwordTokenizer,
    folder: Path,
    decoder: DecoderCheckpoint | None = None,
) -> None:
    """Write a Transformers checkpoint in half precision, the attention decoder, and graphs for ONNX Runtime.

    Args:
        weights: file of the best weights from `recipes.embedded_en.train`.
        config: configuration of the model.
        tokenizer: tokenizer of the model.
        folder: the model folder.
        decoder: decoder for the frozen layers; None for a model without.
    """
    model: Any = MoonshineForCTC(config)
    model.load_state_dict(torch.load(weights, weights_only=True))
    feature_extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE, do_normalize=False, return_attention_mask=True
    )
    for part in (model.half(), feature_extractor, tokenizer.tokenizer):
        part.save_pretrained(folder)
    save_graphs(model.encoder, folder)
    if decoder is not None:
        export_decoder(decoder, folder)


def export_decoder(decoder: DecoderCheckpoint, folder: Path) -> None:
    """Write an attention decoder, and graphs for ONNX Runtime, into a model's folder."""
    save_decoder(folder, decoder)
    save_decoder_graphs(decoder.sizes, folder)
