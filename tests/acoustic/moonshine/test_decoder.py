"""The attention decoder in PyTorch: it equals Transformers' Moonshine decoder, can be trained, and may be fused."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import MoonshineConfig
from transformers.models.moonshine.modeling_moonshine import MoonshineDecoder

from stream_asr.acoustic.moonshine.decoder import Decoder, parameter_shapes
from tests.support.decoders import SMALL, make_decoder

pytestmark = pytest.mark.usefixtures("one_thread")


def test_decoder_equals_the_decoder_of_transformers() -> None:
    decoder = make_decoder()
    config = MoonshineConfig(
        vocab_size=SMALL.tokens,
        hidden_size=SMALL.width,
        intermediate_size=SMALL.inner_width,
        decoder_num_hidden_layers=SMALL.layers,
        decoder_num_attention_heads=SMALL.heads,
    )
    reference = MoonshineDecoder(config).eval()
    weights = decoder.state_dict()
    norm = weights.pop("encoder_norm.weight")
    reference.load_state_dict(weights)
    tokens, encoded = torch.randint(3, SMALL.tokens, (2, 7)), torch.randn(2, 11, SMALL.width)
    with torch.no_grad():
        normed = torch.nn.functional.layer_norm(encoded, (SMALL.width,), norm)
        states = reference(input_ids=tokens, encoder_hidden_states=normed).last_hidden_state
        expected = states @ decoder.state_dict()["embed_tokens.weight"].T
    found = decoder(tokens, encoded)
    assert found.std() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_parameter_shapes_are_those_of_the_module() -> None:
    shapes = {name: tuple(weight.shape) for name, weight in Decoder(SMALL).state_dict().items()}
    assert parameter_shapes(SMALL) == shapes


def test_fusing_changes_only_the_speed() -> None:
    decoder = make_decoder()
    fused = copy.deepcopy(decoder)
    fused.fuse()
    tokens, encoded = torch.randint(3, SMALL.tokens, (2, 7)), torch.randn(2, 11, SMALL.width)
    frames = torch.tensor([11, 6])
    torch.testing.assert_close(fused(tokens, encoded, frames), decoder(tokens, encoded, frames), atol=1e-4, rtol=0)


def test_padding_does_not_change_the_outputs() -> None:
    decoder, tokens, encoded = make_decoder(), torch.randint(3, SMALL.tokens, (2, 9)), torch.randn(2, 12, SMALL.width)
    batched = decoder(tokens, encoded, torch.tensor([12, 5]))
    alone = decoder(tokens[1:, :4], encoded[1:, :5])
    torch.testing.assert_close(batched[1:, :4], alone, atol=1e-4, rtol=0)


def test_decoder_learns_a_text() -> None:
    torch.manual_seed(0)
    decoder = Decoder(SMALL)
    text, encoded = torch.tensor([[1, 7, 30, 8, 7, 2]]), torch.randn(1, 20, SMALL.width)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        logits = decoder(text[:, :-1], encoded)
        loss = torch.nn.functional.cross_entropy(logits[0], text[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(weight.grad is not None for weight in decoder.parameters())
    assert losses[-1] < 0.1 * losses[0]
