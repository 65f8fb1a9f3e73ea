"""Small checkpoints with random weights, in the format of trained checkpoints.

Strides, normalization, masks and vocabularies equal those of published checkpoints. Widths and depths are smaller. The
weights of the output layer are large, so that outputs differ from frame to frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
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
"""Vocabulary of facebook/wav2vec2-base-960h, in the order of its outputs."""

SUBWORDS = ("<unk>", "▁", "▁t", "▁the", "▁a", "s", "in", "er", "▁w", "re", "o", "n", "d", "▁good", "'", "<pad>")
"""Vocabulary of a small Parakeet: SentencePiece tokens, blank last."""

_NEVER_EMITTED = ("<s>", "</s>", "<unk>")
_WIDTH = 32
_TRANSFORMER: dict[str, Any] = {
    "hidden_size": _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 2 * _WIDTH,
}
_WAVEFORM: dict[str, Any] = {
    **_TRANSFORMER,
    "vocab_size": len(LETTERS),
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_LAYER: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def save_wav2vec2_group(folder: Path) -> None:
    """Like facebook/wav2vec2-base-960h."""
    _save(folder, Wav2Vec2ForCTC, Wav2Vec2Config(**_WAVEFORM, feat_extract_norm="group"), _waveform(mask=False))


def save_wav2vec2_layer(folder: Path) -> None:
    """Like facebook/wav2vec2-large-960h-lv60."""
    _save(folder, Wav2Vec2ForCTC, Wav2Vec2Config(**_WAVEFORM, **_LAYER), _waveform(mask=True))


def save_wav2vec2_raw(folder: Path) -> None:
    """Wav2Vec2 without normalization of windows, so that a frame depends on nearby audio only."""
    _save(folder, Wav2Vec2ForCTC, Wav2Vec2Config(**_WAVEFORM, **_LAYER), _waveform(mask=True, normalize=False))


def save_hubert(folder: Path) -> None:
    """Like facebook/hubert-large-ls960-ft."""
    _save(folder, HubertForCTC, HubertConfig(**_WAVEFORM, **_LAYER), _waveform(mask=True))


def save_wavlm(folder: Path) -> None:
    """Like patrickvonplaten/wavlm-libri-clean-100h-base."""
    _save(folder, WavLMForCTC, WavLMConfig(**_WAVEFORM, feat_extract_norm="group"), _waveform(mask=False))


def save_data2vec(folder: Path) -> None:
    """Like facebook/data2vec-audio-base-960h, with a chain of positional convolutions."""
    config = Data2VecAudioConfig(**_WAVEFORM | {"num_conv_pos_embeddings": 2}, conv_pos_kernel_size=3)
    _save(folder, Data2VecAudioForCTC, config, _waveform(mask=True))


def save_wav2vec2_bert(folder: Path, *, adapter: bool = False) -> None:
    """Like checkpoints that were fine-tuned from facebook/w2v-bert-2.0, many of which have an adapter."""
    config = Wav2Vec2BertConfig(
        **_TRANSFORMER, vocab_size=len(LETTERS), conv_depthwise_kernel_size=7, add_adapter=adapter
    )
    _save(folder, Wav2Vec2BertForCTC, config, SeamlessM4TFeatureExtractor(padding_value=1))


def save_parakeet(folder: Path) -> None:
    """Like nvidia/parakeet-ctc-0.6b."""
    encoder = ParakeetEncoderConfig(**_TRANSFORMER, subsampling_conv_channels=16, initializer_range=0.3)
    config = ParakeetCTCConfig(
        vocab_size=len(SUBWORDS), pad_token_id=SUBWORDS.index("<pad>"), encoder_config=encoder.to_dict()
    )
    _save(folder, ParakeetForCTC, config, ParakeetFeatureExtractor(), SUBWORDS)


def save_moonshine_ctc(folder: Path, joined_after: int | None = None) -> None:
    """Like the bundled model, which joins frames."""
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


def save_letter_tokenizer(folder: Path) -> None:
    """Save a tokenizer whose tokens are letters."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: index for index, letter in enumerate(LETTERS)}), encoding="utf-8")
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)


def save_subword_tokenizer(folder: Path) -> None:
    """Save a tokenizer whose tokens are parts of words."""
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(SUBWORDS)}, [], unk_token="<unk>"))
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
        head.bias[[index for index, token in enumerate(vocabulary) if token in _NEVER_EMITTED]] = -100
    model.save_pretrained(folder)
    feature_extractor.save_pretrained(folder)
    (save_letter_tokenizer if vocabulary is LETTERS else save_subword_tokenizer)(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "wav2vec2 group norm": save_wav2vec2_group,
    "wav2vec2 layer norm": save_wav2vec2_layer,
    "wav2vec2 raw": save_wav2vec2_raw,
    "hubert": save_hubert,
    "wavlm": save_wavlm,
    "data2vec": save_data2vec,
    "wav2vec2-bert": save_wav2vec2_bert,
    "wav2vec2-bert adapter": partial(save_wav2vec2_bert, adapter=True),
    "parakeet": save_parakeet,
    "moonshine": save_moonshine_ctc,
    "moonshine joined": partial(save_moonshine_ctc, joined_after=1),
}
"""All kinds of checkpoints above, by name: functions that save one to a folder."""


def cached_checkpoints(
    factory: pytest.TempPathFactory, families: Mapping[str, Callable[[Path], None]] = FAMILIES
) -> Callable[[str], Path]:
    """Return a function from the name of a family to the folder of its checkpoint, which tests must not change.

    A checkpoint is saved when it is first requested.
    """

    @cache
    def folder(name: str) -> Path:
        created = factory.mktemp("checkpoint")
        families[name](created)
        return created

    return folder


def update_json(file: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def filter_weights(folder: Path, keep: Callable[[str], bool]) -> None:
    """Remove from a checkpoint all weights whose name ``keep`` rejects."""
    file = folder / "model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if keep(name)}, file, {"format": "pt"})


def load_runner(name: str | Path | None = None, **options: Any) -> TransformersCTC:
    """Load a model on the CPU and return the part that runs single windows in PyTorch.

    Args:
        name: as for `load_model`.
        options: further arguments of `load_model`.
    """
    model = load_model(name, **{"device": "cpu", "backend": "torch", **options})
    runner = model.runner if isinstance(model, OnePerCore) else model
    assert isinstance(runner, TransformersCTC)
    return runner
