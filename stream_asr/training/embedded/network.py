"""The model as it is trained: frozen parts, holes in what it hears, limited views; and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stream_asr.acoustic.moonshine_ctc import MoonshineForCTC
from stream_asr.training.embedded.data import Batch
from stream_asr.training.embedded.settings import TrainingSettings


class Network(nn.Module):
    """Batches in, log-probabilities ``(segments, frames, vocabulary)`` out.

    Args:
        model: its feature encoder is frozen: it has heard more speech than this training has to offer. Batches of
            states leave the layers before the joining out, so these are frozen, too.
    """

    def __init__(self, model: MoonshineForCTC, settings: TrainingSettings) -> None:
        super().__init__()
        self.model, self._settings = model, settings
        model.freeze_feature_encoder()
        if settings.head_only:
            model.encoder.requires_grad_(False)
        if settings.from_states:
            model.encoder.layers[: model.encoder.joined_after].requires_grad_(False)
        config = model.config
        config.apply_spec_augment = settings.mask_time > 0
        config.mask_time_prob, config.mask_time_length = settings.mask_time, settings.mask_frames
        config.mask_feature_prob, config.mask_feature_length = settings.mask_features, settings.mask_width
        config.final_dropout = settings.dropout

    def forward(self, batch: Batch) -> Tensor:
        visible = None
        if self.training:
            visible = self._settings.chunks.draw(int(self.frames(batch).max()), batch.draw)
        logits: Tensor
        if self._settings.from_states:
            logits = self.model.from_states(batch.inputs, self.frames(batch), visible)
        else:
            mask = torch.arange(batch.inputs.shape[1]) < torch.tensor(batch.lengths)[:, None]
            logits = self.model(batch.inputs, mask.long(), visible).logits
        return F.log_softmax(logits, dim=-1)

    def frames(self, batch: Batch) -> Tensor:
        """Outputs of each segment, int64."""
        lengths = torch.tensor(batch.lengths)
        return lengths // 2 if self._settings.from_states else self.model.encoder.frames(lengths)


def ctc_loss(log_probs: Tensor, frames: Tensor, batch: Batch, blank: int) -> Tensor:
    """The negative log-likelihood of the texts, in nats for each of their outputs.

    Args:
        frames: of each segment, those of its padding not counted.
    """
    ids = [torch.tensor(text) for text in batch.ids]
    total = F.ctc_loss(
        log_probs.transpose(0, 1),
        torch.cat(ids),
        frames,
        torch.tensor([len(text) for text in ids]),
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )
    return total / sum(map(len, ids))
