"""Moonshine's encoder on a stream: what is kept of the past stands for hearing it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stream_asr import Recognizer
from stream_asr.acoustic.base import Chunk, StatefulModel
from stream_asr.acoustic.loading import arranged, load_model
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.acoustic.moonshine.streaming import EncoderState, Level, forward_chunk
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.array_types import FloatArray
from stream_asr.config import RecognizerConfig, WindowConfig
from tests.support.checkpoints import made_once, save_moonshine_ctc

STRIDE = 384


def encoder(layers: int, joined_after: int | None = None) -> Encoder:
    torch.manual_seed(0)
    config = MoonshineCTCConfig(encoder_num_hidden_layers=layers, joined_after=joined_after)
    model = MoonshineForCTC(config).eval().requires_grad_(False)
    for layer in model.encoder.layers:  # so that a frame's neighbours matter as much as they do to a trained one
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.weight.mul_(5)
    return model.encoder


def noise(frames: int) -> Tensor:
    return 0.1 * torch.randn(frames * STRIDE, generator=torch.Generator().manual_seed(1))


def pieces(encoder: Encoder, audio: Tensor, kept: int, right: int, state: EncoderState) -> list[Tensor]:
    """What comes of the kept frames of each piece; these are counted before the joining."""
    made, rate = [], 1 if encoder.joined_after is None else 2
    for start in range(0, len(audio) - (kept + right) * STRIDE, kept * STRIDE):
        frames, state = forward_chunk(encoder, audio[start:][: (kept + right) * STRIDE], kept * STRIDE, state)
        made.append(frames[0, : kept // rate])
    return made


@pytest.mark.parametrize("joined_after", [None, 2])
def test_a_piece_without_a_past_is_heard_as_a_whole_window_is(joined_after: int | None) -> None:
    model, audio = encoder(3, joined_after), noise(40)
    heard, _ = forward_chunk(model, audio, len(audio), EncoderState(reach=100))
    torch.testing.assert_close(heard, model(model.features(audio[None])), atol=1e-4, rtol=0)


@pytest.mark.parametrize("reach", [7, 1000])
def test_frames_look_at_those_kept_before_them_and_at_their_own_piece(reach: int) -> None:
    """One layer, and a level that no piece can change: then a mask over the whole recording says the same."""
    model, audio, kept, right = encoder(1), noise(100), 8, 6
    settled = EncoderState(reach, level=Level(10**12, 0.0, 0.5 * 10**12))
    made = torch.cat(pieces(model, audio, kept, right, settled))
    features = model.shaped(model.waves(audio[None]) * (0.5 + model.groupnorm.eps) ** -0.5)
    place = torch.arange(features.shape[1])
    start = place // kept * kept
    stop = start + kept + right - 2  # the convolutions need what follows the last frames of a piece
    visible = (place[None] >= (start - reach)[:, None]) & (place[None] < stop[:, None])
    expected = model.upper(features, visible=visible)[0, : len(made)]
    torch.testing.assert_close(made, expected, atol=1e-3, rtol=0)
    whole = model.upper(features)[0, : len(made)]
    assert (whole - expected).abs().max() > 0.01, "it matters what a frame looks at"


def test_a_memory_does_not_change(tmp_path: Path) -> None:
    model, audio = encoder(2, 1), noise(60)
    _, state = forward_chunk(model, audio[: 30 * STRIDE], 20 * STRIDE, EncoderState(reach=40))
    preview, _ = forward_chunk(model, audio[20 * STRIDE : 44 * STRIDE], 24 * STRIDE, state)
    forward_chunk(model, audio[20 * STRIDE :], 20 * STRIDE, state)
    again, _ = forward_chunk(model, audio[20 * STRIDE : 44 * STRIDE], 24 * STRIDE, state)
    assert torch.equal(preview, again)


def test_a_memory_does_not_grow_beyond_its_reach() -> None:
    model, state, sizes = encoder(2, 1), EncoderState(reach=30), []
    for _ in range(6):
        _, state = forward_chunk(model, noise(24), 20 * STRIDE, state)
        sizes.append([past.keys.shape[2] for past in state.layers])
    assert sizes[0] == [20, 10]
    assert sizes[1:] == 5 * [[30, 15]]
    assert state.steps == 120


def test_loudness_changes_nothing_after_a_while() -> None:
    """The norm of the first convolution takes in all of the utterance, so a quiet word stays a quiet word."""
    model, audio = encoder(1), noise(200)
    quiet = torch.cat((audio[: 180 * STRIDE], 0.01 * audio[180 * STRIDE :]))
    ends = [pieces(model, sound, 10, 4, EncoderState(reach=100))[-1] for sound in (audio, quiet)]
    assert (ends[0] - ends[1]).abs().mean() > 0.1


# --- behind the engine's interface ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return made_once(tmp_path_factory, {"moonshine": save_moonshine_ctc})


def test_what_suits_a_model_is_chosen(checkpoint: Callable[[str], Path]) -> None:
    embedded, own = (
        load_model(device="cpu", precision="float32"),
        load_model(checkpoint("moonshine"), device="cpu", precision="float32"),
    )
    assert type(arranged(embedded)) is StatefulMoonshine
    assert type(arranged(own)) is StatefulMoonshine, "with another vocabulary, too"
    assert isinstance(arranged(own), StatefulModel)
    assert not isinstance(OnePerCore(own, 1), StatefulModel)


def test_pieces_of_any_length_give_the_frames_that_windows_give(speech: FloatArray) -> None:
    runner = load_model(device="cpu", precision="float32")
    model = StatefulMoonshine(runner, cores=2)
    state = model.initial_state(64_000)
    windows = [speech[8_000:][: count * 768] for count in (1, 2, 3, 40)]
    for window, heard in zip(windows, model.forward_chunks([Chunk(w, len(w), state) for w in windows]), strict=True):
        [alone] = runner.log_probs([window])
        np.testing.assert_allclose(heard.log_probs, alone, atol=2e-3)


def test_utterances_of_a_recording_are_heard_side_by_side(speech: FloatArray) -> None:
    texts, batches = [], []
    for cores in (1, 2):
        model = StatefulMoonshine(load_model(device="cpu", precision="float32"), cores)
        with Recognizer(model) as recognizer:
            texts.append(recognizer.transcribe(speech).text)
            batches.append(recognizer.stats.batches)
    assert texts[0] == texts[1]
    alone, together = batches[1][1:]
    assert together > alone, "most windows had company"
    assert batches[0][1] == alone + 2 * together


def test_a_recognizer_takes_the_windows_of_its_model_or_those_it_is_told() -> None:
    model = StatefulMoonshine(load_model(device="cpu", precision="float32"), cores=1)
    with Recognizer(model) as recognizer:
        assert recognizer.config.windows == StatefulMoonshine.window_config
    wanted = WindowConfig(commit_ms=800)
    with Recognizer(model, RecognizerConfig(windows=wanted)) as recognizer:
        assert recognizer.config.windows == wanted
