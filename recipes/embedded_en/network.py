"""The model as it is trained: frozen layers, holes in what they tell, limited views; and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.embedded_en.data import Batch
from recipes.embedded_en.settings import TrainingSettings
from stream_asr.acoustic.moonshine.transformers import MoonshineForCTC


class Network(nn.Module):
    """Batches in, log-probabilities ``(segments, frames, vocabulary)`` out.

    Args:
        model: the layers before the joining of frames are frozen; batches hold what these made of the recordings.
    """

    def __init__(self, model: MoonshineForCTC, settings: TrainingSettings) -> None:
        super().__init__()
        self.model, self._chunks = model, settings.chunks
        model.freeze_feature_encoder()
        model.encoder.layers[: model.encoder.joined_after].requires_grad_(False)
        config = model.config
        config.apply_spec_augment = settings.mask_time > 0
        config.mask_time_prob, config.mask_time_length = settings.mask_time, settings.mask_frames
        config.mask_feature_prob, config.mask_feature_length = settings.mask_features, settings.mask_width
        config.final_dropout = settings.dropout

    def forward(self, batch: Batch) -> Tensor:
        frames = output_frames(batch)
        visible = self._chunks.draw(int(frames.max()), batch.draw) if self.training else None
        return F.log_softmax(self.model.from_states(batch.states, frames, visible), dim=-1)


def output_frames(batch: Batch) -> Tensor:
    """Outputs of each segment, int64."""
    return torch.tensor(batch.lengths) // 2


def ctc_loss(log_probs: Tensor, batch: Batch, blank: int) -> Tensor:
    """The negative log-likelihood of what is said, in nats for each of its outputs."""
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
