"""Small speech seq2seq checkpoints with random weights, in the format of published ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Speech2TextConfig,
    Speech2TextFeatureExtractor,
    Speech2TextForConditionalGeneration,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    TrOCRConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

SENTENCES = [
    "the quick brown fox jumps over the lazy dog and the other dogs",
    "she sells sea shells by the sea shore, and then there were none",
    "naïve café, straße, 東京",
]
LANGUAGES = ("en", "de", "fr")
WHISPER_CHUNK_S = 4
"""Length to which the small Whisper pads audio."""

_WIDTH = 32
_LAYERS: dict[str, Any] = {
    "d_model": _WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 2 * _WIDTH,
    "decoder_ffn_dim": 2 * _WIDTH,
}


def byte_level_tokenizer(special: tuple[str, ...], plain: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Make a tokenizer like Whisper's, with tokens of bytes.

    Args:
        special: tokens that follow the text tokens.
        plain: added tokens after these that Transformers does not count as special, such as Whisper's timestamps.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in plain])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0])


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer like Moonshine's: SentencePiece tokens, and bytes for characters that it lacks."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(SENTENCES[:2], trainers.BpeTrainer(vocab_size=60, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [(first, second) for first, second in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def save_whisper(folder: Path, *, multilingual: bool = True) -> None:
    """Like openai/whisper-tiny, or openai/whisper-tiny.en."""
    languages = [f"<|{code}|>" for code in LANGUAGES]
    special = (
        "<|endoftext|>",
        "<|startoftranscript|>",
        *languages,
        "<|translate|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    )
    tokenizer = byte_level_tokenizer(special, ("<|0.00|>", "<|0.02|>"))
    ids = tokenizer.get_vocab()
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = WhisperConfig(
        **_LAYERS,
        vocab_size=len(ids) + 3,  # published checkpoints have more outputs than tokens
        max_source_positions=50 * WHISPER_CHUNK_S,
        max_target_positions=48,
        decoder_start_token_id=start,
        eos_token_id=end,
        bos_token_id=end,
        pad_token_id=end,
        init_std=0.3,
    )
    generation = {
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "suppress_tokens": [ids["a"], ids["<|translate|>"], start],
        "begin_suppress_tokens": [ids["Ġ"], end],
        "is_multilingual": multilingual,
        "max_length": 48,
    }
    if multilingual:
        generation["lang_to_id"] = {token: ids[token] for token in languages}
        generation["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    _save(folder, WhisperForConditionalGeneration, config, GenerationConfig(**generation))
    WhisperFeatureExtractor(chunk_length=WHISPER_CHUNK_S).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_moonshine(folder: Path) -> None:
    """Like UsefulSensors/moonshine-tiny."""
    tokenizer = sentencepiece_tokenizer()
    config = MoonshineConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        encoder_num_hidden_layers=2,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        initializer_range=0.3,
        pad_token_id=2,
    )
    generation = GenerationConfig(decoder_start_token_id=1, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    _save(folder, MoonshineForConditionalGeneration, config, generation)
    Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_speech2text(folder: Path) -> None:
    """Like facebook/s2t-small-librispeech-asr."""
    tokenizer = sentencepiece_tokenizer()
    config = Speech2TextConfig(
        **_LAYERS,
        vocab_size=len(tokenizer),
        conv_channels=16,
        decoder_start_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        init_std=0.3,
    )
    generation = GenerationConfig(decoder_start_token_id=2, eos_token_id=2, pad_token_id=0)
    _save(folder, Speech2TextForConditionalGeneration, config, generation)
    Speech2TextFeatureExtractor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_speech_encoder_decoder(folder: Path) -> None:
    """Wav2Vec2 with a text decoder, as many fine-tuned checkpoints have it."""
    tokenizer = byte_level_tokenizer(("</s>",))
    end = tokenizer.get_vocab()["</s>"]
    encoder = Wav2Vec2Config(
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * _WIDTH,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    decoder = TrOCRConfig(
        vocab_size=len(tokenizer),
        d_model=_WIDTH,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=2 * _WIDTH,
        cross_attention_hidden_size=_WIDTH,
        init_std=0.3,
    )
    decoder.is_decoder = decoder.add_cross_attention = True
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, decoder, decoder_start_token_id=end, eos_token_id=end, pad_token_id=end
    )
    generation = GenerationConfig(decoder_start_token_id=end, eos_token_id=end, pad_token_id=end)
    _save(folder, SpeechEncoderDecoderModel, config, generation)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "whisper": save_whisper,
    "whisper.en": partial(save_whisper, multilingual=False),
    "moonshine": save_moonshine,
    "speech2text": save_speech2text,
    "speech-encoder-decoder": save_speech_encoder_decoder,
}


def _save(folder: Path, model_class: Any, config: Any, generation_config: GenerationConfig) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = model_class(config)
    model.generation_config = generation_config
    model.save_pretrained(folder)
