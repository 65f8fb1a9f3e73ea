"""A CTC model as something that can be taught: its inputs in batches, its loss, its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.pretrained import HEADS
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.decoding.ctc import BestPath as FramePath
from stream_asr.decoding.ctc import decode
from stream_asr.errors import InputError
from stream_asr.training.alphabet import TokenGraph
from stream_asr.training.augment import Holes


@dataclass(frozen=True, slots=True)
class Part:
    """Clips that go through the model together.

    Attributes:
        inputs: what the model is called with, padded to the length of the longest.
        frames: output frames of each clip, those of its padding not counted.
        spellings: their texts.
    """

    inputs: dict[str, Tensor]
    frames: tuple[int, ...]
    spellings: tuple[TokenGraph, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips that one gradient is made of.

    Attributes:
        parts: one where the model can be given padding without hearing it, else one for each clip.
        seconds: of audio, without padding.
    """

    parts: tuple[Part, ...]
    seconds: float

    @property
    def texts(self) -> list[str]:
        """What is said in each clip, in order."""
        return [spelling.text for part in self.parts for spelling in part.spellings]


class TrainableCTC:
    """Makes batches for a model, calculates its loss on them, and reads what it writes.

    A clip is filled up with silence to whole strides, as it is for recognition. In a batch it gives the outputs that
    it gives alone, up to rounding: features are made of each clip on its own and padded behind it, and the model gets
    a mask; a model that was trained without masks gets its clips one by one.

    Args:
        runner: the model as the recognizer runs it.
        holes: SpecAugment. Models that carry it inside themselves are told by their configuration.
    """

    def __init__(self, runner: TransformersCTC, holes: Holes) -> None:
        self.model: nn.Module = runner.model
        self._runner = runner
        config = runner.model.config
        self._holes: Holes | None = holes
        self._shortest = runner.shortest_samples
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.register_forward_pre_hook(_keep_statistics)
            if hasattr(module, "_mask_hidden_states"):
                _mask_inside(module, config, holes)
                self._holes = None
                # Transformers refuses clips shorter than a hole.
                self._shortest = max(self._shortest, (config.mask_time_length + 2) * runner.frame_samples)

    def frames(self, samples: int) -> int:
        """Output frames of a clip of so many samples."""
        return self._runner.frames(self._filled(samples))

    def fits(self, samples: int, spelling: TokenGraph) -> bool:
        """See `stream_asr.training.dataset.Collator`."""
        return self.frames(samples) >= spelling.fewest_frames

    def batch(self, clips: Sequence[tuple[FloatArray, TokenGraph]], rng: np.random.Generator | None) -> Batch:
        """See `stream_asr.training.dataset.Collator`. May be called from several threads."""
        groups = [clips] if self._runner.pads else [[clip] for clip in clips]
        seconds = sum(len(samples) for samples, _ in clips) / SAMPLE_RATE
        return Batch(tuple(self._part(group, rng) for group in groups), seconds)

    def loss(self, batch: Batch) -> Tensor:
        """The negative log-likelihood of the texts, in nats for each of their outputs."""
        total, outputs = torch.zeros((), device=self._runner.device), 0
        for part in batch.parts:
            targets = torch.tensor([index for spelling in part.spellings for index in spelling.ids])
            log_probs = self._log_probs(part).transpose(0, 1)
            if log_probs.device.type == "mps":  # which has no CTC
                log_probs = log_probs.cpu()
            total = total + F.ctc_loss(
                log_probs,
                targets.to(log_probs.device),
                torch.tensor(part.frames),
                torch.tensor([len(spelling.ids) for spelling in part.spellings]),
                blank=self._runner.labels.blank,
                reduction="sum",
                zero_infinity=True,
            ).to(total.device)
            outputs += len(targets)
        return total / outputs

    @torch.no_grad()
    def transcribe(self, batch: Batch) -> list[str]:
        """What the model writes for each clip: the best path, in one pass over the whole of it."""
        texts = []
        for part in batch.parts:
            for log_probs, frames in zip(self._log_probs(part).cpu().numpy(), part.frames, strict=True):
                path = FramePath.best(log_probs[:frames], 0)
                texts.append(decode(path, self._runner.labels, self._runner.frame_samples).text)
        return texts

    def _log_probs(self, part: Part) -> Tensor:
        """Of what the model writes, float32, shape (clips, frames, vocabulary)."""
        inputs = {name: tensor.to(self._runner.device) for name, tensor in part.inputs.items()}
        logits: Tensor = self.model(**inputs).logits
        return F.log_softmax(logits.float(), dim=-1)

    def _part(self, clips: Sequence[tuple[FloatArray, TokenGraph]], rng: np.random.Generator | None) -> Part:
        name = self._runner.model.main_input_name
        features = [self._features(samples, rng) for samples, _ in clips]
        longest = max(map(len, features))
        filler = self._runner.feature_extractor.padding_value
        padded = np.stack([_padded(clip, longest, filler) for clip in features])
        inputs = {name: torch.from_numpy(padded)}
        if self._runner.masks:
            mask = np.stack([_padded(np.ones(len(clip), dtype=np.int64), longest, 0) for clip in features])
            inputs["attention_mask"] = torch.from_numpy(mask)
        return Part(
            inputs, tuple(self.frames(len(samples)) for samples, _ in clips), tuple(spelling for _, spelling in clips)
        )

    def _features(self, samples: FloatArray, rng: np.random.Generator | None) -> FloatArray:
        """What the model takes of one clip, time first: samples, or frames of a spectrogram."""
        filled = np.pad(samples, (0, self._filled(len(samples)) - len(samples)))
        made: Any = self._runner.feature_extractor(
            filled,
            sampling_rate=SAMPLE_RATE,
            padding="longest",
            truncation=False,
            return_attention_mask=True,
            return_tensors="pt",
        )
        features: FloatArray = made[self._runner.model.main_input_name][0].numpy()
        features = features[: int(made["attention_mask"].sum())]  # Parakeet's have a frame too many
        return self._holes(features, rng) if self._holes is not None and rng is not None else features

    def _filled(self, samples: int) -> int:
        stride = self._runner.frame_samples
        return max(-(-samples // stride) * stride, self._shortest)


def _keep_statistics(module: nn.Module, _: Any) -> None:
    """Batch normalisation goes on with the statistics it came with: batches with padding would spoil them."""
    module.eval()


def _mask_inside(module: Any, config: Any, holes: Holes) -> None:
    """Let a model of Transformers that carries SpecAugment inside itself make the holes."""
    config.apply_spec_augment = holes.time > 0 or holes.frequency > 0
    config.mask_time_prob, config.mask_feature_prob = holes.time, holes.frequency
    if not hasattr(config, "mask_feature_min_masks"):  # WavLM asks for it and does not have it
        config.mask_feature_min_masks = 0
    if config.apply_spec_augment and not hasattr(module, "masked_spec_embed"):
        # Models whose configuration has no holes are made without it.
        weight = next(module.parameters())
        module.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size).uniform_().to(weight))


def _padded(values: Any, length: int, filler: float) -> Any:
    widths = [(0, length - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, widths, constant_values=filler)


def freeze(model: Any, *, feature_encoder: bool, layers: int) -> None:
    """Keep parts of a model as they are.

    Args:
        feature_encoder: the convolutions over the waveform; a model over a spectrogram has none of these.
        layers: so many of the lowest layers of the encoder, and everything below them.

    Raises:
        InputError: it has not so many layers.
    """
    if feature_encoder and hasattr(model, "freeze_feature_encoder"):
        model.freeze_feature_encoder()
    if not layers:
        return
    stacks = {name: module for name, module in model.named_modules() if name.endswith("encoder.layers")}
    name, stack = next(iter(stacks.items()), ("", ()))
    if layers > len(stack):
        raise InputError(f"{layers} layers to freeze; the encoder has {len(stack)}")
    above = (
        *(f"{name}.{index}." for index in range(layers, len(stack))),
        f"{name.removesuffix('layers')}layer_norm.",
        *(f"{head}." for head in HEADS),
    )
    for path, parameter in model.named_parameters():
        if not path.startswith(above) and "adapter" not in path:
            parameter.requires_grad_(False)


def checkpoint_activations(model: Any) -> None:
    """Calculate activations again when they are needed, in place of keeping them: slower, in much less memory.

    Raises:
        InputError: the architecture cannot.
    """
    # Transformers 5 gave it a new name on the way.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(f"no gradient checkpointing for this model: {error}") from error
