"""How a model is run where it is: remembering, side by side, or in batches."""

from __future__ import annotations

import torch

from stream_asr.acoustic.base import AcousticModel
from stream_asr.acoustic.moonshine import encoder_of
from stream_asr.acoustic.remembering import RememberingMoonshine
from stream_asr.acoustic.side_by_side import SideBySide
from stream_asr.acoustic.transformers_ctc import TransformersCTC

_SMALL = 30_000_000
"""Parameters up to which a core does a window of some seconds in less than the time between two previews."""


def arranged(model: TransformersCTC) -> AcousticModel:
    """The model as it serves streams best.

    On a processor, one with Moonshine's encoder remembers what it made of the audio before, and another small one runs
    windows side by side. All others run them in batches.
    """
    if model.device.type != "cpu":
        return model
    if encoder_of(model.model) is not None:
        return RememberingMoonshine(model, torch.get_num_threads(), model.hearer)
    return SideBySide(model, torch.get_num_threads()) if model.parameters <= _SMALL else model
