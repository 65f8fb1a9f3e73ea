"""Moonshine's encoder on a stream: the cached state replaces the audio before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_asr import Recognizer
from stream_asr.acoustic.base import Chunk, StatefulModel
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.config import MOONSHINE_WINDOWS, RecognizerConfig, WindowConfig
from tests.support.checkpoints import load_runner

pytestmark = pytest.mark.usefixtures("one_thread")

STRIDE = 384


def make_encoder(layers: int, joined_after: int | None = None) -> Encoder:
    torch.manual_seed(0)
    config = MoonshineCTCConfig(encoder_num_hidden_layers=layers, joined_after=joined_after)
    model = MoonshineForCTC(config).requires_grad_(False)
    model.train(False)
    for layer in model.encoder.layers:  # make attention matter as much as in a trained encoder
        assert isinstance(layer.self_attn, torch.nn.Module)
        for name in ("q_proj", "k_proj", "v_proj"):
            layer.self_attn.get_parameter(f"{name}.weight").mul_(5)
    return model.encoder


def noise(frames: int) -> Tensor:
    return 0.1 * torch.randn(frames * STRIDE, generator=torch.Generator().manual_seed(1))


def run_chunks(encoder: Encoder, audio: Tensor, kept: int, right: int, state: EncoderState) -> list[Tensor]:
    """Output for the kept frames of each chunk; ``kept`` and ``right`` count frames before they are joined."""
    outputs, rate = [], 1 if encoder.joined_after is None else 2
    for start in range(0, len(audio) - (kept + right) * STRIDE, kept * STRIDE):
        frames, _, state, _ = forward_chunk(encoder, audio[start:][: (kept + right) * STRIDE], kept * STRIDE, state)
        outputs.append(frames[0, : kept // rate])
    return outputs


@pytest.mark.parametrize("joined_after", [None, 0, 2])
def test_first_chunk_equals_a_whole_window(joined_after: int | None) -> None:
    encoder, audio = make_encoder(3, joined_after), noise(40)
    frames, *_ = forward_chunk(encoder, audio, len(audio), EncoderState(max_left_frames=100))
    torch.testing.assert_close(frames, encoder(encoder.features(audio[None])), atol=1e-4, rtol=0)


@pytest.mark.parametrize("max_left_frames", [7, 1000])
def test_frames_attend_to_cached_frames_and_their_own_chunk(max_left_frames: int) -> None:
    """With one layer and constant moments, an attention mask over the whole recording gives the same frames."""
    encoder, audio, kept, right = make_encoder(1), noise(100), 8, 6
    moments = torch.tensor([1e12, 0.0, 0.5e12], dtype=torch.float64)
    outputs = torch.cat(run_chunks(encoder, audio, kept, right, EncoderState(max_left_frames, moments=moments)))
    features = encoder.convolve(encoder.filter(audio[None]) * (0.5 + encoder.groupnorm.eps) ** -0.5)
    place = torch.arange(features.shape[1])
    start = place // kept * kept
    stop = start + kept + right - 2  # the convolutions need the audio after the last frames of a chunk
    visible = (place[None] >= (start - max_left_frames)[:, None]) & (place[None] < stop[:, None])
    expected = encoder.upper(features, visible=visible)[0, : len(outputs)]
    torch.testing.assert_close(outputs, expected, atol=1e-3, rtol=0)
    unmasked = encoder.upper(features)[0, : len(outputs)]
    assert (unmasked - expected).abs().max() > 0.01, "the mask makes no difference, so this test proves nothing"


def test_state_is_immutable() -> None:
    encoder, audio = make_encoder(2, 1), noise(60)
    _, _, state, _ = forward_chunk(encoder, audio[: 30 * STRIDE], 20 * STRIDE, EncoderState(max_left_frames=40))
    preview, *_ = forward_chunk(encoder, audio[20 * STRIDE : 44 * STRIDE], 24 * STRIDE, state)
    forward_chunk(encoder, audio[20 * STRIDE :], 20 * STRIDE, state)
    again, *_ = forward_chunk(encoder, audio[20 * STRIDE : 44 * STRIDE], 24 * STRIDE, state)
    assert torch.equal(preview, again)


def test_state_is_bounded() -> None:
    encoder, state, sizes = make_encoder(2, 1), EncoderState(max_left_frames=30), []
    for _ in range(6):
        _, _, state, _ = forward_chunk(encoder, noise(24), 20 * STRIDE, state)
        sizes.append([sum(block.past[layer].keys.shape[2] for block in state.blocks) for layer in range(2)])
    assert sizes[0] == [20, 10]
    assert sizes[1:] == 5 * [[40, 20]], "the oldest block is kept whole until attention no longer reaches it"
    assert state.frames == 120


def test_group_norm_covers_the_utterance_so_far() -> None:
    """A quiet word after loud ones stays quiet."""
    encoder, audio = make_encoder(1), noise(200)
    quiet = torch.cat((audio[: 180 * STRIDE], 0.01 * audio[180 * STRIDE :]))
    ends = [run_chunks(encoder, signal, 10, 4, EncoderState(max_left_frames=100))[-1] for signal in (audio, quiet)]
    assert (ends[0] - ends[1]).abs().mean() > 0.1


# --- behind the engine's interface ------------------------------------------------------------------------


def test_moonshine_models_on_a_cpu_are_stateful(checkpoint: Callable[[str], Path]) -> None:
    models = [load_model(name, device="cpu", precision="float32") for name in (None, checkpoint("moonshine"))]
    for model in models:
        assert type(model) is StatefulMoonshine
        assert isinstance(model, StatefulModel)
    assert not isinstance(OnePerCore(load_runner(checkpoint("moonshine")), 1), StatefulModel)


def test_chunks_of_any_length_equal_windows(speech: FloatArray, embedded: TransformersCTC) -> None:
    model = StatefulMoonshine(embedded, cores=2)
    state = model.initial_state(64_000)
    windows = [speech[8_000:][: count * 768] for count in (1, 2, 3, 40)]
    outputs = model.forward_chunks([Chunk(window, len(window), state) for window in windows])
    for window, output in zip(windows, outputs, strict=True):
        [expected] = embedded.log_probs([window])
        np.testing.assert_allclose(output.log_probs, expected, atol=2e-3)


def test_utterances_of_a_recording_run_in_parallel(speech: FloatArray, embedded: TransformersCTC) -> None:
    texts, batches = [], []
    for cores in (1, 2):
        with Recognizer(StatefulMoonshine(embedded, cores)) as recognizer:
            texts.append(recognizer.transcribe(speech[:224_000]).text)
            batches.append(recognizer.stats.batches)
    assert texts[0] == texts[1]
    single, pairs = batches[1][1:]
    assert pairs > single, "most windows ran next to another one"
    assert batches[0][1] == single + 2 * pairs


def test_recognizer_uses_the_windows_of_the_model_unless_configured(embedded: TransformersCTC) -> None:
    model = StatefulMoonshine(embedded, cores=1)
    with Recognizer(model) as recognizer:
        assert recognizer.config.windows == MOONSHINE_WINDOWS
    windows = WindowConfig(commit_ms=800)
    with Recognizer(model, RecognizerConfig(windows=windows)) as recognizer:
        assert recognizer.config.windows == windows
