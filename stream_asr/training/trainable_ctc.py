"""A CTC model in training: batches, loss, transcription, and frozen layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint
from stream_asr.acoustic.pretrained import HEADS
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Target
from stream_asr.training.augmentation import SpecAugment


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Clips that pass through the model together.

    Attributes:
        inputs: keyword arguments of the model, padded to the longest clip.
        frame_counts: output frames of each clip, without padding.
        targets: text of each clip.
    """

    inputs: dict[str, Tensor]
    frame_counts: tuple[int, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips that contribute to one gradient.

    Attributes:
        micro_batches: one with all clips if padding does not change the model's outputs, else one for each clip.
        seconds: duration of the audio, without padding.
    """

    micro_batches: tuple[MicroBatch, ...]
    seconds: float

    @property
    def texts(self) -> list[str]:
        """Text of each clip, in order."""
        return [target.text for micro_batch in self.micro_batches for target in micro_batch.targets]


class TrainableCTC:
    """Builds batches for a model, computes its loss, and transcribes.

    Implements `stream_asr.training.dataset.Collator`.

    A clip is padded with silence to a whole number of strides, as it is for recognition. Within a batch its outputs are
    the same as alone, up to rounding: features are computed for each clip separately, padded at the end and masked. A
    model that was trained without attention masks gets its clips one by one.

    Args:
        runner: the model as the recognizer runs it.
        spec_augment: masking of the features. Models with their own SpecAugment are configured accordingly.

    Attributes:
        model: the CTC model.
        module: everything that is trained.
        shared_layers: number of encoder layers, from the lowest, that an attention decoder shares; 0 without one.
    """

    shared_layers = 0

    def __init__(self, runner: TransformersCTC, spec_augment: SpecAugment) -> None:
        self.model: nn.Module = runner.model
        self.module = self.model
        self._runner = runner
        config = runner.model.config
        self._spec_augment: SpecAugment | None = spec_augment
        self._min_samples = runner.min_samples
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.register_forward_pre_hook(_use_stored_statistics)
            if hasattr(module, "_mask_hidden_states"):
                _configure_masking(module, config, spec_augment)
                self._spec_augment = None
                # Transformers rejects clips shorter than a mask.
                self._min_samples = max(self._min_samples, (config.mask_time_length + 2) * runner.frame_samples)

    def frame_count(self, samples: int) -> int:
        """Return the number of output frames of a clip."""
        return self._runner.frames(self._padded_samples(samples))

    def fits(self, samples: int, target: Target) -> bool:
        """See `stream_asr.training.dataset.Collator`."""
        return self.frame_count(samples) >= target.min_frames

    def collate(self, clips: Sequence[tuple[FloatArray, Target]], rng: np.random.Generator | None) -> Batch:
        """See `stream_asr.training.dataset.Collator`. Thread-safe."""
        groups = [clips] if self._runner.pads else [[clip] for clip in clips]
        seconds = sum(len(samples) for samples, _ in clips) / SAMPLE_RATE
        return Batch(tuple(self._micro_batch(group, rng) for group in groups), seconds)

    def loss(self, batch: Batch) -> Tensor:
        """Return the CTC loss: negative log-likelihood of the texts in nats per token, a scalar."""
        total, tokens = torch.zeros((), device=self._runner.device), 0
        for micro_batch in batch.micro_batches:
            ids = torch.tensor([index for target in micro_batch.targets for index in target.ids])
            log_probs = self._log_probs(micro_batch).transpose(0, 1)
            if log_probs.device.type == "mps":  # MPS does not implement CTC
                log_probs = log_probs.cpu()
            total = total + F.ctc_loss(
                log_probs,
                ids.to(log_probs.device),
                torch.tensor(micro_batch.frame_counts),
                torch.tensor([len(target.ids) for target in micro_batch.targets]),
                blank=self._runner.labels.blank,
                reduction="sum",
                zero_infinity=True,
            ).to(total.device)
            tokens += len(ids)
        return total / tokens

    @torch.no_grad()
    def transcribe(self, batch: Batch) -> list[str]:
        """Return the best path text of each clip, recognized in one pass."""
        texts = []
        for micro_batch in batch.micro_batches:
            outputs = self._log_probs(micro_batch).cpu().numpy()
            for log_probs, frames in zip(outputs, micro_batch.frame_counts, strict=True):
                path = BestPath.from_log_probs(log_probs[:frames], 0)
                texts.append(decode(path, self._runner.labels, self._runner.frame_samples).text)
        return texts

    def decoder_checkpoint(self) -> DecoderCheckpoint | None:
        """Return the attention decoder with its current weights; None for a model without one."""
        return None

    def _log_probs(self, micro_batch: MicroBatch) -> Tensor:
        """Return log-probabilities, float32, shape (clips, frames, vocabulary)."""
        inputs = {name: tensor.to(self._runner.device) for name, tensor in micro_batch.inputs.items()}
        logits: Tensor = self.model(**inputs).logits
        return F.log_softmax(logits.float(), dim=-1)

    def _micro_batch(self, clips: Sequence[tuple[FloatArray, Target]], rng: np.random.Generator | None) -> MicroBatch:
        name = self._runner.model.main_input_name
        features = [self._features(samples, rng) for samples, _ in clips]
        longest = max(map(len, features))
        padding_value = self._runner.feature_extractor.padding_value
        padded = np.stack([_pad(clip, longest, padding_value) for clip in features])
        inputs = {name: torch.from_numpy(padded)}
        if self._runner.masks:
            mask = np.stack([_pad(np.ones(len(clip), dtype=np.int64), longest, 0) for clip in features])
            inputs["attention_mask"] = torch.from_numpy(mask)
        return MicroBatch(
            inputs,
            tuple(self.frame_count(len(samples)) for samples, _ in clips),
            tuple(target for _, target in clips),
        )

    def _features(self, samples: FloatArray, rng: np.random.Generator | None) -> FloatArray:
        """Return the model's input for one clip, time first: samples, or frames of a spectrogram."""
        padded = np.pad(samples, (0, self._padded_samples(len(samples)) - len(samples)))
        extracted: Any = self._runner.feature_extractor(
            padded,
            sampling_rate=SAMPLE_RATE,
            padding="longest",
            truncation=False,
            return_attention_mask=True,
            return_tensors="pt",
        )
        features: FloatArray = extracted[self._runner.model.main_input_name][0].numpy()
        features = features[: int(extracted["attention_mask"].sum())]  # Parakeet's extractor adds a frame
        return self._spec_augment(features, rng) if self._spec_augment is not None and rng is not None else features

    def _padded_samples(self, samples: int) -> int:
        stride = self._runner.frame_samples
        return max(-(-samples // stride) * stride, self._min_samples)


def _use_stored_statistics(module: nn.Module, _: Any) -> None:
    """Keep batch normalization in evaluation mode: statistics of batches with padding would be wrong."""
    module.eval()


def _configure_masking(module: Any, config: Any, spec_augment: SpecAugment) -> None:
    """Configure the SpecAugment that is built into a Transformers model."""
    config.apply_spec_augment = spec_augment.time > 0 or spec_augment.frequency > 0
    config.mask_time_prob, config.mask_feature_prob = spec_augment.time, spec_augment.frequency
    if not hasattr(config, "mask_feature_min_masks"):  # WavLM reads this field but does not define it
        config.mask_feature_min_masks = 0
    if config.apply_spec_augment and not hasattr(module, "masked_spec_embed"):
        # Models that were configured without masking lack the embedding.
        weight = next(module.parameters())
        module.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_().to(weight))


def _pad(values: Any, length: int, padding_value: float) -> Any:
    widths = [(0, length - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, widths, constant_values=padding_value)


def freeze_parameters(model: Any, *, feature_encoder: bool, layers: int) -> None:
    """Exclude parts of a model from training.

    Args:
        feature_encoder: freeze the convolutions over the waveform. Models over a spectrogram have none.
        layers: number of encoder layers to freeze, from the lowest, with everything below them.

    Raises:
        InputError: the encoder has fewer layers.
    """
    if feature_encoder and hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    if not layers:
        return
    stacks = {name: module for name, module in model.named_modules() if name.endswith("encoder.layers")}
    name, stack = next(iter(stacks.items()), ("", ()))
    if layers > len(stack):
        raise InputError(f"cannot freeze {layers} layers; the encoder has {len(stack)}")
    trained = (
        *(f"{name}.{index}." for index in range(layers, len(stack))),
        f"{name.removesuffix('layers')}layer_norm.",
        *(f"{head}." for head in HEADS),
    )
    for path, parameter in model.named_parameters():
        if not path.startswith(trained) and "adapter" not in path:
            parameter.requires_grad_(False)


def enable_gradient_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass instead of storing them.

    Raises:
        InputError: the architecture does not support it.
    """
    # Renamed during Transformers 5.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"this model does not support gradient checkpointing: {error}") from error
