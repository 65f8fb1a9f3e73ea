"""The model in training: frozen layers, masked inputs and limited attention; and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.embedded_en.dataset import Batch
from recipes.embedded_en.settings import TrainingSettings
from stream_asr.acoustic.moonshine.transformers import MoonshineForCTC


class Network(nn.Module):
    """Computes log-probabilities, shape (segments, frames, vocabulary), of a batch.

    Args:
        model: its layers before frames are joined are frozen; batches contain their outputs.
        settings: masking, dropout and attention limits.
    """

    def __init__(self, model: MoonshineForCTC, settings: TrainingSettings) -> None:
        super().__init__()
        self.model, self._chunk_masks = model, settings.chunk_masks
        model.freeze_feature_encoder()
        model.encoder.layers[: model.encoder.joined_after].requires_grad_(False)
        config = model.config
        config.apply_spec_augment = settings.mask_time > 0
        config.mask_time_prob, config.mask_time_length = settings.mask_time, settings.mask_frames
        config.mask_feature_prob, config.mask_feature_length = settings.mask_features, settings.mask_width
        config.final_dropout = settings.dropout

    def forward(self, batch: Batch) -> Tensor:
        frames = output_frames(batch)
        visible = self._chunk_masks.sample(int(frames.max()), batch.rng) if self.training else None
        return F.log_softmax(self.model.from_states(batch.states, frames, visible), dim=-1)


def output_frames(batch: Batch) -> Tensor:
    """Return the number of output frames of each segment, int64."""
    return torch.tensor(batch.lengths) // 2


def ctc_loss(log_probs: Tensor, batch: Batch, blank: int) -> Tensor:
    """Return the CTC loss: negative log-likelihood of the texts in nats per token, a scalar."""
    ids = [torch.tensor(text) for text in batch.ids]
    total = F.ctc_loss(
        log_probs.transpose(0, 1),
        torch.cat(ids),
        output_frames(batch),
        torch.tensor([len(text) for text in ids]),
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )
    return total / sum(map(len, ids))
