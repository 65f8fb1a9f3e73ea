"""Read checkpoints of `MoonshineForCTC` without Transformers.

Importing Transformers takes longer than everything else before the first caption. What is read here acts like
Transformers' model and feature extractor, as far as `TransformersCTC` uses them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine.encoder import Encoder, clip_lengths, encoder_sizes
from stream_asr.acoustic.tokenizer_labels import labels_from_vocabulary
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE

MODEL_TYPE = "moonshine_ctc"

_IGNORED_WEIGHTS = "phone_head."
"""Prefix of the weights of a head that earlier versions of the bundled model had."""


class WaveformExtractor:
    """Acts like Transformers' ``Wav2Vec2FeatureExtractor`` without normalization: it only pads."""

    model_input_names = ("input_values", "attention_mask")
    return_attention_mask = True

    def __call__(
        self, windows: Sequence[FloatArray], pad_to_multiple_of: int | None = None, **_: Any
    ) -> dict[str, Tensor]:
        clips = [torch.from_numpy(window) for window in windows]
        lengths = torch.tensor([len(clip) for clip in clips])
        padded = pad_sequence(clips, batch_first=True)
        padded = F.pad(padded, (0, -padded.shape[1] % (pad_to_multiple_of or 1)))
        valid = torch.arange(padded.shape[1]) < lengths[:, None]
        return {"input_values": padded, "attention_mask": valid.long()}


class Network(nn.Module):
    """The encoder and the head of `MoonshineForCTC`, with the same parameters under the same names."""

    main_input_name = "input_values"

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(encoder_sizes(config))
        self.ctc_head = nn.Linear(config.hidden_size, config.vocab_size)

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.conv1.weight.dtype

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        lengths = clip_lengths(attention_mask)
        frames = self.encoder(self.encoder.features(input_values, lengths), lengths)
        return SimpleNamespace(logits=self.ctc_head(frames))


@dataclass(frozen=True, slots=True)
class MoonshineCheckpoint:
    """See `Checkpoint`. It lacks the tokenizer of `Pretrained`, which only training needs."""

    name: str
    folder: Path
    model: Network
    feature_extractor: WaveformExtractor
    labels: Labels


def read_checkpoint(folder: Path, name: str, dtype: torch.dtype) -> MoonshineCheckpoint | None:
    """Read a checkpoint.

    Args:
        folder: of the checkpoint.
        name: the name or folder that the user gave.
        dtype: of the weights.

    Returns:
        None if the checkpoint has another architecture or is damaged; Transformers reports the reason.
    """
    try:
        config, tokenizer, audio = (
            json.loads((folder / file).read_text(encoding="utf-8"))
            for file in ("config.json", "tokenizer.json", "preprocessor_config.json")
        )
        if config["model_type"] != MODEL_TYPE or audio["do_normalize"] or audio["sampling_rate"] != SAMPLE_RATE:
            return None
        model = Network(SimpleNamespace(**config))
        weights = load_file(folder / "model.safetensors")
        model.load_state_dict({key: weight for key, weight in weights.items() if not key.startswith(_IGNORED_WEIGHTS)})
        added = tokenizer["added_tokens"]
        vocabulary = {**tokenizer["model"]["vocab"], **{token["content"]: token["id"] for token in added}}
        special = {token["content"] for token in added if token["special"]}
        blank = config["pad_token_id"]
    except Exception:  # a damaged checkpoint can raise anything
        return None
    labels = labels_from_vocabulary(name, config["vocab_size"], vocabulary, special, blank, delimiter=None)
    return MoonshineCheckpoint(name, folder, model.to(dtype), WaveformExtractor(), labels)
