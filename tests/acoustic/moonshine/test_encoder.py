"""The encoder in PyTorch: it equals Transformers' Moonshine encoder, and padding does not change its outputs."""

from __future__ import annotations

import pytest
import torch
from transformers import MoonshineConfig
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder

from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = MoonshineCTCConfig(encoder_num_hidden_layers=2)
JOINED = MoonshineCTCConfig(encoder_num_hidden_layers=3, joined_after=1, inputs_to_logits_ratio=768)


def test_encoder_equals_the_encoder_of_transformers() -> None:
    torch.manual_seed(0)
    reference = MoonshineEncoder(MoonshineConfig()).train(False)
    model = MoonshineForCTC(MoonshineCTCConfig()).train(False)
    model.encoder.load_state_dict(reference.state_dict())
    waveform = 0.1 * torch.randn(2, 20_000)
    with torch.no_grad():
        expected = reference(waveform).last_hidden_state
        torch.testing.assert_close(model.encoder(model.encoder.features(waveform)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("padding_value", [0.0, 5.0])
@pytest.mark.parametrize("config", [PLAIN, JOINED], ids=["plain", "joined"])
def test_padding_does_not_change_the_outputs(padding_value: float, config: MoonshineCTCConfig) -> None:
    torch.manual_seed(0)
    model = MoonshineForCTC(config).train(False)
    lengths = (20_000, 14_321, 9_000)
    clips = [0.1 * torch.randn(length) for length in lengths]
    padded = torch.stack(
        [torch.nn.functional.pad(clip, (0, 20_000 - len(clip)), value=padding_value) for clip in clips]
    )
    mask = torch.stack([(torch.arange(20_000) < length).long() for length in lengths])
    frames = model.encoder.frames(torch.tensor(lengths)).tolist()
    with torch.no_grad():
        batched = model(padded, mask).logits
        for clip, count, row in zip(clips, frames, batched, strict=True):
            alone = model(clip[None]).logits[0]
            assert len(alone) == count
            torch.testing.assert_close(row[:count], alone, atol=1e-4, rtol=0)
        unmasked = model(padded).logits[2, : frames[2]]
    assert (unmasked - alone).abs().max() > 1e-3, "without a mask, padding changes the outputs"
