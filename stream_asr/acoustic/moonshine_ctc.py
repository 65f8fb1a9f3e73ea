"""Moonshine's audio encoder under a linear CTC head: waveform in, no positions but relative ones.

Its upper layers may work at half the rate of its lower ones: pieces of words need no more frames, and half of them
cost half.

Transformers has Moonshine's encoder only as half of a sequence-to-sequence model. Parameter names follow its
``MoonshineEncoder``, so its checkpoints load without renaming. `register()` makes Transformers' ``Auto`` classes
know the type.

Sources: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands", 2024 (encoder);
Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021 (positions); Graves et al.,
"Connectionist Temporal Classification", 2006 (the head's training criterion).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCTC, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutput


class MoonshineCTCConfig(PreTrainedConfig):
    """Sizes of a `MoonshineForCTC`; the field names are those of Transformers' ``MoonshineConfig``."""

    model_type = "moonshine_ctc"

    vocab_size: int = 29
    hidden_size: int = 288
    intermediate_size: int = 1152
    encoder_num_hidden_layers: int = 6
    encoder_num_attention_heads: int = 8
    rotary_dim: int = 32
    """How many of a head's numbers are rotated; the others carry no position."""

    rope_theta: float = 10_000.0
    apply_spec_augment: bool = False
    mask_time_prob: float = 0.0
    mask_time_length: int = 10
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    """SpecAugment, in training only; as in Transformers' ``Wav2Vec2Config``."""

    pad_token_id: int = 0
    """Also the CTC blank, as everywhere in Transformers."""

    joined_after: int | None = None
    """Layers after which every two frames become one; None for never."""

    inputs_to_logits_ratio: int = 384
    """Samples at 16 kHz for each output frame: the strides 64, 3 and 2 of the convolutions, and 2 if frames are
    joined."""


class _SelfAttention(nn.Module):
    def __init__(self, config: MoonshineCTCConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.encoder_num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        batch, frames, width = x.shape
        query, key, value = (
            projection(x).view(batch, frames, self.heads, -1).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = _rotated(query, *rotation), _rotated(key, *rotation)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        joined: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, frames, width))
        return joined


class _MLP(nn.Module):
    def __init__(self, config: MoonshineCTCConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class _Layer(GradientCheckpointingLayer):
    def __init__(self, config: MoonshineCTCConfig) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(config)
        self.mlp = _MLP(config)
        self.input_layernorm = nn.LayerNorm(config.hidden_size, bias=False)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotation, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, config: MoonshineCTCConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.conv1 = nn.Conv1d(1, width, kernel_size=127, stride=64, bias=False)
        self.conv2 = nn.Conv1d(width, 2 * width, kernel_size=7, stride=3)
        self.conv3 = nn.Conv1d(2 * width, width, kernel_size=3, stride=2)
        self.groupnorm = nn.GroupNorm(num_groups=1, num_channels=width, eps=1e-5)
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.encoder_num_hidden_layers)])
        self.joined_after = config.joined_after
        self.join = None if config.joined_after is None else nn.Linear(2 * width, width)
        self.layer_norm = nn.LayerNorm(width, bias=False)
        self.rotary_dim, self.rope_theta = config.rotary_dim, config.rope_theta

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``(batch, samples)`` to ``(batch, frames, width)``.

        Args:
            lengths: samples of each clip that are no padding, int64, shape (batch,); None for all.
        """
        x = self._normalized(torch.tanh(self.conv1(waveform[:, None])), lengths)
        return F.gelu(self.conv3(F.gelu(self.conv2(x)))).transpose(1, 2)

    def _normalized(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Group norm over all channels and the time before the padding."""
        if lengths is None:
            normed: Tensor = self.groupnorm(x)
            return normed
        # In single precision: the sums over a window are more than half precision can hold.
        dtype, x = x.dtype, x.float()
        kernel, stride = self.conv1.kernel_size[0], self.conv1.stride[0]
        frames = ((lengths - kernel) // stride + 1).clamp(min=1)
        heard = (torch.arange(x.shape[-1], device=x.device) < frames[:, None])[:, None]
        count = frames[:, None, None] * x.shape[1]
        mean = (x * heard).sum((1, 2), keepdim=True) / count
        variance = (torch.square(x - mean) * heard).sum((1, 2), keepdim=True) / count
        x = ((x - mean) * torch.rsqrt(variance + self.groupnorm.eps)).to(dtype)
        return x * self.groupnorm.weight[:, None] + self.groupnorm.bias[:, None]

    def frames(self, lengths: Tensor) -> Tensor:
        """Output frames of clips of so many samples: those that no padding went into."""
        lengths = self._feature_frames(lengths)
        return lengths if self.join is None else lengths // 2

    def _feature_frames(self, lengths: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            lengths = (lengths - conv.kernel_size[0]) // conv.stride[0] + 1
        return lengths.clamp(min=0)

    def forward(self, features: Tensor, lengths: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """
        Args:
            features: see `features`.
            lengths: as given to `features`.
            visible: bool, shape (frames, frames) of the output, true where the row's frame may look at the column's;
                None for no limit. Layers before a joining of frames have no limits.
        """
        heard = None if lengths is None else self.frames(lengths)
        return self.upper(self.lower(features, lengths), heard, visible)

    def lower(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the layers before the joining make of features, of the same shape."""
        if self.join is None:
            return x
        heard = None if lengths is None else self._feature_frames(lengths)
        return self._through(self.layers[: self.joined_after], x, heard, None, 1)

    def upper(self, x: Tensor, heard: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """What the other layers make of that, ``(batch, frames of the output, width)``.

        Args:
            heard: output frames of each clip that are no padding, int64, shape (batch,); None for all.
        """
        stride = 1
        if self.join is not None:
            x = self.join(x[:, : x.shape[1] // 2 * 2].reshape(x.shape[0], -1, 2 * x.shape[2]))
            stride = 2
        x = self._through(self.layers[self.joined_after or 0 :], x, heard, visible, stride)
        normed: Tensor = self.layer_norm(x)
        return normed

    def _through(
        self, layers: nn.ModuleList, x: Tensor, heard: Tensor | None, visible: Tensor | None, stride: int
    ) -> Tensor:
        rotation, mask = self._rotation(x, stride), visible
        if heard is not None:
            spoken = (torch.arange(x.shape[1], device=x.device) < heard[:, None])[:, None, None]
            mask = spoken if visible is None else spoken & visible
        for layer in layers:
            x = layer(x, rotation, mask)
        return x

    def _rotation(self, x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position's angles, each ``(frames, rotary_dim / 2)``.

        Args:
            stride: from one position to the next.
        """
        pairs = torch.arange(0, self.rotary_dim, 2, device=x.device, dtype=torch.float32)
        positions = stride * torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        angles = positions[:, None] * self.rope_theta ** (-pairs / self.rotary_dim)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


class MoonshineForCTC(PreTrainedModel):
    """Samples at 16 kHz ``(batch, samples)`` float32 in, ``logits`` ``(batch, frames, vocabulary)`` out.

    Clips of different lengths are padded at their ends, and ``attention_mask``, int64 of the same shape, is 1 where
    there is no padding; a clip's frames then come out as they do when it is alone, up to rounding.
    """

    config_class = MoonshineCTCConfig
    main_input_name = "input_values"
    supports_gradient_checkpointing = True

    def __init__(self, config: MoonshineCTCConfig) -> None:
        super().__init__(config)
        self.encoder = _Encoder(config)
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
        elif module is self:  # no checkpoint has it, and Transformers loads into memory as it finds it
            nn.init.zeros_(self.masked_spec_embed)

    def freeze_feature_encoder(self) -> None:
        """Leave the convolutions over the waveform as they are."""
        for module in (self.encoder.conv1, self.encoder.groupnorm, self.encoder.conv2, self.encoder.conv3):
            module.requires_grad_(False)

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, visible: Tensor | None = None, **_: Any
    ) -> CausalLMOutput:
        """``visible``, bool of shape (frames, frames), limits which frames (columns) each frame (row) looks at."""
        # A single window is never padded, and attention without a mask is the faster.
        padded = attention_mask is not None and not bool(attention_mask.all())
        lengths = attention_mask.sum(-1) if attention_mask is not None and padded else None
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoder.conv1.weight.requires_grad):
            features = self.encoder.features(input_values, lengths)
        if self.training and self.config.apply_spec_augment:
            features = self._mask_hidden_states(features)
        return CausalLMOutput(logits=self.ctc_head(self.encoder(features, lengths, visible)))

    def from_states(self, states: Tensor, heard: Tensor | None = None, visible: Tensor | None = None) -> Tensor:
        """Logits from what the layers before the joining made of the waveforms; see ``_Encoder.upper``."""
        if self.training and self.config.apply_spec_augment:
            states = self._mask_hidden_states(states)
        logits: Tensor = self.ctc_head(self.encoder.upper(states, heard, visible))
        return logits

    def _mask_hidden_states(self, features: Tensor) -> Tensor:
        """SpecAugment (Park et al., 2019) on what the convolutions give; its chance is NumPy's, as in Transformers."""
        # Not at the top: recognizing needs nothing of it, and importing it takes a second.
        from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices

        config, (clips, frames, width) = self.config, features.shape

        def holes(length: int, part: float, span: int) -> Tensor:
            return torch.from_numpy(_compute_mask_indices((clips, length), part, span)).to(features.device)

        if config.mask_time_prob and frames > config.mask_time_length:
            hidden = holes(frames, config.mask_time_prob, config.mask_time_length)
            features = torch.where(hidden[:, :, None], self.masked_spec_embed, features)
        if config.mask_feature_prob and width > config.mask_feature_length:
            hidden = holes(width, config.mask_feature_prob, config.mask_feature_length)
            features = features.masked_fill(hidden[:, None], 0.0)
        return features


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn neighbouring pairs of each head's first numbers by their position's angles.

    Args:
        x: ``(batch, heads, frames, width)``.
        cosine, sine: ``(frames, pairs)``.
    """
    turned, still = x[..., : 2 * cosine.shape[-1]], x[..., 2 * cosine.shape[-1] :]
    even, odd = turned[..., 0::2], turned[..., 1::2]
    pairs = torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), dim=-1)
    return torch.cat((pairs.flatten(-2), still), dim=-1)


def register() -> None:
    """Teach ``AutoConfig`` and ``AutoModelForCTC`` the type ``moonshine_ctc``; calling it again changes nothing."""
    AutoConfig.register(MoonshineCTCConfig.model_type, MoonshineCTCConfig, exist_ok=True)
    AutoModelForCTC.register(MoonshineCTCConfig, MoonshineForCTC, exist_ok=True)
