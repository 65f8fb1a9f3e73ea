"""Moonshine's audio encoder with a linear CTC head, as a Transformers model.

Transformers itself has the encoder only as a part of a sequence-to-sequence model. `register` adds this model type to
its ``Auto`` classes.

Source: Graves et al., "Connectionist Temporal Classification", 2006 (the head's training criterion).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from stream_asr.acoustic.moonshine.checkpoint import MODEL_TYPE
from stream_asr.acoustic.moonshine.encoder import Encoder, clip_lengths, encoder_sizes


class MoonshineCTCConfig(PreTrainedConfig):
    """Sizes of a `MoonshineForCTC`; the field names are those of Transformers' ``MoonshineConfig``."""

    model_type = MODEL_TYPE

    vocab_size: int = 29
    hidden_size: int = 288
    intermediate_size: int = 1152
    encoder_num_hidden_layers: int = 6
    encoder_num_attention_heads: int = 8
    rotary_dim: int = 32
    """How many numbers of a head are rotated; the others carry no position."""

    rope_theta: float = 10_000.0
    apply_spec_augment: bool = False
    mask_time_prob: float = 0.0
    mask_time_length: int = 10
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    final_dropout: float = 0.0
    """SpecAugment, and dropout before the head, in training; as in Transformers' ``Wav2Vec2Config``."""

    language_model: str | None = None
    """Name of the bundled language model that suits the vocabulary."""

    pad_token_id: int = 0
    """Also the CTC blank, as everywhere in Transformers."""

    joined_after: int | None = None
    """Number of layers after which every two frames are joined into one; None for never."""

    inputs_to_logits_ratio: int = 384
    """Stride of the frames in samples at 16 kHz: 64 * 3 * 2 for the convolutions, times 2 if frames are joined."""


class MoonshineForCTC(PreTrainedModel):
    """Input: samples at 16 kHz, float32, shape (batch, samples). Output: logits, shape (batch, frames, vocabulary).

    Clips of different lengths are padded at the end; ``attention_mask``, int64 of the same shape, is 0 for padding. The
    frames of a padded clip equal those of the clip alone, up to rounding.
    """

    config_class = MoonshineCTCConfig
    main_input_name = "input_values"
    supports_gradient_checkpointing = True

    def __init__(self, config: MoonshineCTCConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(encoder_sizes(config))
        self.ctc_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.masked_spec_embed: Tensor
        self.register_buffer("masked_spec_embed", torch.zeros(config.hidden_size), persistent=False)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif module is self:  # not in any checkpoint, and Transformers does not initialize the memory
            nn.init.zeros_(self.masked_spec_embed)

    def freeze_feature_encoder(self) -> None:
        """Freeze the convolutions over the waveform."""
        for module in (self.encoder.conv1, self.encoder.groupnorm, self.encoder.conv2, self.encoder.conv3):
            module.requires_grad_(False)

    def forward(self, input_values: Tensor, attention_mask: Tensor | None = None, **_: Any) -> CausalLMOutput:
        lengths = clip_lengths(attention_mask)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoder.conv1.weight.requires_grad):
            features = self.encoder.features(input_values, lengths)
        if self.training and self.config.apply_spec_augment:
            features = self._mask_hidden_states(features)
        return CausalLMOutput(logits=self._logits(self.encoder(features, lengths)))

    def from_states(self, states: Tensor, frames: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """Compute logits from the output of the layers before frames are joined; see `Encoder.upper`."""
        if self.training and self.config.apply_spec_augment:
            states = self._mask_hidden_states(states)
        return self._logits(self.encoder.upper(states, frames, visible))

    def _logits(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.ctc_head(F.dropout(frames, self.config.final_dropout, self.training))
        return logits

    def _mask_hidden_states(self, features: Tensor) -> Tensor:
        """Apply SpecAugment (Park et al., 2019) to features, with NumPy's random generator, as in Transformers."""
        # Imported late: only training needs it, and the import takes a second.
        from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

        config, (clips, frames, width) = self.config, features.shape

        def random_mask(length: int, ratio: float, span: int) -> Tensor:
            return torch.from_numpy(_compute_mask_indices((clips, length), ratio, span)).to(features.device)

        if config.mask_time_prob and frames > config.mask_time_length:
            masked = random_mask(frames, config.mask_time_prob, config.mask_time_length)
            features = torch.where(masked[:, :, None], self.masked_spec_embed, features)
        if config.mask_feature_prob and width > config.mask_feature_length:
            masked = random_mask(width, config.mask_feature_prob, config.mask_feature_length)
            features = features.masked_fill(masked[:, None], 0.0)
        return features


def register() -> None:
    """Add this model type to ``AutoConfig`` and ``AutoModelForCTC``. Idempotent."""
    AutoConfig.register(MoonshineCTCConfig.model_type, MoonshineCTCConfig, exist_ok=True)
    AutoModelForCTC.register(MoonshineCTCConfig, MoonshineForCTC, exist_ok=True)
