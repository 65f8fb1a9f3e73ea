"""Small checkpoints with random weights, saved as Transformers saves trained ones.

Strides, normalisation, masks and vocabularies are those of the checkpoints people use; widths and depths are
not. The output layer's weights are large, so that the outputs differ from frame to frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioForCTC,
    HubertConfig,
    HubertForCTC,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetTokenizer,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMForCTC,
)

from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.acoustic.transformers_ctc import TransformersCTC

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""The outputs of facebook/wav2vec2-base-960h, in order."""

PIECES = ("<unk>", "▁", "▁t", "▁the", "▁a", "s", "in", "er", "▁w", "re", "o", "n", "d", "▁good", "'", "<pad>")
"""Of a small Parakeet: SentencePiece's mark for a space at the front, the blank last."""

_NEVER_SAID = ("<s>", "</s>", "<unk>")
_WIDTH = 32
_TRANSFORMER = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * _WIDTH,
}
_WAVEFORM = {
    **_TRANSFORMER,
    "vocab_size": len(LETTERS),
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_LAYER = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def save_wav2vec2_group(folder: Path) -> None:
    """Like facebook/wav2vec2-base-960h."""
    _save(folder, Wav2Vec2ForCTC, Wav2Vec2Config(**_WAVEFORM, feat_extract_norm="group"), _waveform(mask=False))


def save_wav2vec2_layer(folder: Path) -> None:
    """Like facebook/wav2vec2-large-960h-lv60."""
    _save(folder, Wav2Vec2ForCTC, Wav2Vec2Config(**_WAVEFORM, **_LAYER), _waveform(mask=True))


def save_wav2vec2_raw(folder: Path) -> None:
    """One whose windows are not normalised, so that its frames depend on what is near them only."""
    _save(folder, Wav2Vec2ForCTC, Wav2Vec2Config(**_WAVEFORM, **_LAYER), _waveform(mask=True, normalize=False))


def save_hubert(folder: Path) -> None:
    """Like facebook/hubert-large-ls960-ft."""
    _save(folder, HubertForCTC, HubertConfig(**_WAVEFORM, **_LAYER), _waveform(mask=True))


def save_wavlm(folder: Path) -> None:
    """Like patrickvonplaten/wavlm-libri-clean-100h-base."""
    _save(folder, WavLMForCTC, WavLMConfig(**_WAVEFORM, feat_extract_norm="group"), _waveform(mask=False))


def save_data2vec(folder: Path) -> None:
    """Like facebook/data2vec-audio-base-960h: positional convolutions, one after the other."""
    config = Data2VecAudioConfig(**_WAVEFORM | {"num_conv_pos_embeddings": 2}, conv_pos_kernel_size=3)
    _save(folder, Data2VecAudioForCTC, config, _waveform(mask=True))


def save_wav2vec2_bert(folder: Path, *, adapter: bool = False) -> None:
    """Like the checkpoints that people fine-tune from facebook/w2v-bert-2.0, many of them with an adapter."""
    config = Wav2Vec2BertConfig(
        **_TRANSFORMER, vocab_size=len(LETTERS), conv_depthwise_kernel_size=7, add_adapter=adapter
    )
    _save(folder, Wav2Vec2BertForCTC, config, SeamlessM4TFeatureExtractor(padding_value=1))


def save_parakeet(folder: Path) -> None:
    """Like nvidia/parakeet-ctc-0.6b."""
    encoder = ParakeetEncoderConfig(**_TRANSFORMER, subsampling_conv_channels=16, initializer_range=0.3)
    config = ParakeetCTCConfig(
        vocab_size=len(PIECES), pad_token_id=PIECES.index("<pad>"), encoder_config=encoder.to_dict()
    )
    _save(folder, ParakeetForCTC, config, ParakeetFeatureExtractor(), PIECES)


def save_moonshine_ctc(folder: Path, joined_after: int | None = None) -> None:
    """Like the embedded model; that joins its frames."""
    config = MoonshineCTCConfig(
        vocab_size=len(LETTERS),
        hidden_size=64,
        intermediate_size=128,
        encoder_num_hidden_layers=2,
        encoder_num_attention_heads=2,
        rotary_dim=24,
        joined_after=joined_after,
        inputs_to_logits_ratio=384 if joined_after is None else 768,
    )
    _save(folder, MoonshineForCTC, config, _waveform(mask=True, normalize=False))


def save_letters(folder: Path) -> None:
    """A tokenizer that spells."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}), encoding="utf-8")
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)


def save_pieces(folder: Path) -> None:
    """A tokenizer of pieces of words."""
    tokenizer = Tokenizer(models.BPE({piece: index for index, piece in enumerate(PIECES)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    ParakeetTokenizer(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>").save_pretrained(folder)


def _waveform(*, mask: bool, normalize: bool = True) -> Wav2Vec2FeatureExtractor:
    return Wav2Vec2FeatureExtractor(return_attention_mask=mask, do_normalize=normalize)


def _save(
    folder: Path, architecture: Any, config: Any, feature_extractor: Any, vocabulary: tuple[str, ...] = LETTERS
) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = architecture(config)
        head = model.lm_head if hasattr(model, "lm_head") else model.ctc_head
        torch.nn.init.normal_(head.weight)
        head.bias[[index for index, token in enumerate(vocabulary) if token in _NEVER_SAID]] = -100
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    (save_letters if vocabulary is LETTERS else save_pieces)(folder)


def made_once(factory: pytest.TempPathFactory, families: Mapping[str, Callable[[Path], None]]) -> Callable[[str], Path]:
    """From the name of a family to the folder of its checkpoint, made when it is first asked for; not to be changed."""

    @cache
    def folder(name: str) -> Path:
        made = factory.mktemp("checkpoint")
        families[name](made)
        return made

    return folder


def load_runner(name: str | Path | None = None, **options: Any) -> TransformersCTC:
    """Load a model on the CPU, and return what runs single windows of it in PyTorch."""
    model = load_model(name, **{"device": "cpu", "backend": "torch", **options})
    runner = model.model if isinstance(model, OnePerCore) else model
    assert isinstance(runner, TransformersCTC)
    return runner
