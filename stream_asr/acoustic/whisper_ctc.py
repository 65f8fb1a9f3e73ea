"""The architecture of the embedded model: Whisper's audio encoder under a linear CTC head.

Transformers has Whisper's encoder only as half of a sequence-to-sequence model that insists on thirty
seconds of audio; a recognizer needs it at any length. Parameter names follow ``WhisperEncoder``, so its
checkpoints load without renaming. `register()` makes Transformers' ``Auto`` classes know the type.

Sources: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (encoder);
Graves et al., "Connectionist Temporal Classification", 2006 (the head's training criterion).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutput


class WhisperCTCConfig(PreTrainedConfig):
    """Sizes of a `WhisperForCTC`; the field names are those of Transformers' ``WhisperConfig``."""

    model_type = "whisper_ctc"

    vocab_size: int = 29
    num_mel_bins: int = 80
    d_model: int = 384
    encoder_layers: int = 4
    encoder_attention_heads: int = 6
    encoder_ffn_dim: int = 1536
    max_source_positions: int = 1500
    """Longest input, in output frames of 20 ms (1,500 frames are 30 s)."""

    dropout: float = 0.0
    ctc_loss_reduction: str = "mean"
    pad_token_id: int = 0
    """Also the CTC blank, as everywhere in Transformers."""

    inputs_to_logits_ratio: int = 320
    """Samples at 16 kHz for each output frame: the mel hop of 160 times the strides of the convolutions."""


class _SelfAttention(nn.Module):
    def __init__(self, config: WhisperCTCConfig) -> None:
        super().__init__()
        self.heads = config.encoder_attention_heads
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        # Whisper's keys have no bias: it would add the same number to every score of a query.
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, attended_to: Tensor | None) -> Tensor:
        batch, frames, width = x.shape
        query, key, value = (
            projection(x).view(batch, frames, self.heads, -1).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attended_to)
        joined: Tensor = self.out_proj(attended.transpose(1, 2).reshape(batch, frames, width))
        return joined


class _Layer(GradientCheckpointingLayer):
    def __init__(self, config: WhisperCTCConfig) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.self_attn = _SelfAttention(config)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.dropout = config.dropout

    def forward(self, x: Tensor, attended_to: Tensor | None) -> Tensor:
        attended = self.self_attn(self.self_attn_layer_norm(x), attended_to)
        x = x + F.dropout(attended, self.dropout, self.training)
        hidden = F.gelu(self.fc1(self.final_layer_norm(x)))
        return x + F.dropout(self.fc2(hidden), self.dropout, self.training)


class _Encoder(nn.Module):
    def __init__(self, config: WhisperCTCConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_source_positions, config.d_model)
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.encoder_layers)])
        self.layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, input_features: Tensor, attention_mask: Tensor | None) -> Tensor:
        x, attended_to = input_features, None
        if attention_mask is not None:
            # Each convolution fills up with zeros behind its input: that is what must stand in the padding.
            audio = attention_mask.bool()[:, None]
            x = F.gelu(self.conv1(x * audio)) * audio
            attended_to = audio[:, None, :, ::2]
        else:
            x = F.gelu(self.conv1(x))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        frames, longest = x.shape[1], self.embed_positions.num_embeddings
        if frames > longest:
            raise ValueError(f"{frames} frames of input; this model takes at most {longest}")
        x = x + self.embed_positions.weight[:frames]
        for layer in self.layers:
            x = layer(x, attended_to)
        normed: Tensor = self.layer_norm(x)
        return normed


class WhisperForCTC(PreTrainedModel):
    """Log-mel features ``(batch, mel bins, 2 * frames)`` float32 in, ``logits`` ``(batch, frames, vocabulary)`` out.

    Features are those of ``WhisperFeatureExtractor`` without its padding to thirty seconds, each utterance's made on
    its own. An ``attention_mask`` ``(batch, 2 * frames)``, 1 for audio and 0 for what only fills up a batch behind
    it, keeps the logits of every utterance what they are alone; those of the padding mean nothing.

    Raises:
        ValueError: more frames than ``config.max_source_positions``.
    """

    config_class = WhisperCTCConfig
    main_input_name = "input_features"
    supports_gradient_checkpointing = True

    def __init__(self, config: WhisperCTCConfig) -> None:
        super().__init__(config)
        self.encoder = _Encoder(config)
        self.ctc_head = nn.Linear(config.d_model, config.vocab_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Labels ``(batch, longest text)`` int64, padded with negative numbers, add the CTC ``loss``."""
        logits = self.ctc_head(self.encoder(input_features, attention_mask))
        loss = None
        if labels is not None:
            if attention_mask is None:
                frames = torch.full((len(logits),), logits.shape[1], dtype=torch.long)
            else:
                frames = attention_mask[:, ::2].sum(-1)
            spoken = labels >= 0
            log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
            loss = F.ctc_loss(
                log_probs,
                labels.clamp(min=0),
                input_lengths=frames,
                target_lengths=spoken.sum(-1),
                blank=self.config.pad_token_id,
                reduction=self.config.ctc_loss_reduction,
                zero_infinity=True,
            )
        return CausalLMOutput(loss=loss, logits=logits)


def register() -> None:
    """Teach ``AutoConfig`` and ``AutoModelForCTC`` the type ``whisper_ctc``; calling it again changes nothing."""
    AutoConfig.register(WhisperCTCConfig.model_type, WhisperCTCConfig, exist_ok=True)
    AutoModelForCTC.register(WhisperCTCConfig, WhisperForCTC, exist_ok=True)
