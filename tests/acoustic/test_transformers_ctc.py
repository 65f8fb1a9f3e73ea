"""Checkpoints of all supported families, with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from transformers import AutoTokenizer, Wav2Vec2Processor

from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.errors import ModelError
from tests.support.checkpoints import filter_weights, load_runner, update_json
from tests.support.log_probs import assert_normalized, decode_ids, mean_difference, plain_log_probs

pytestmark = pytest.mark.usefixtures("one_thread")


class Family(NamedTuple):
    """Facts about a kind of checkpoint.

    Attributes:
        frame_samples: stride of the output frames.
        missing_frames: how many frames an output has less than its window has strides. The waveform models need 400
            samples for a frame of 320, so the last stride of a window yields no frame. The same holds for the last mel
            frames of Wav2Vec2-BERT and the last two strides of Moonshine. Other models pad the end of a window.
        center: the middle of the samples that frame k depends on most, counted from ``k * frame_samples``.
        pads: whether windows of different lengths may share a batch.
    """

    frame_samples: int
    missing_frames: int
    center: int
    pads: bool


FAMILIES = {
    "wav2vec2 group norm": Family(320, 1, 200, False),
    "wav2vec2 layer norm": Family(320, 1, 200, True),
    "wav2vec2 raw": Family(320, 1, 200, True),
    "hubert": Family(320, 1, 200, True),
    "wavlm": Family(320, 1, 200, False),
    # Its positional convolutions carry padding back into the window, whatever the mask is.
    "data2vec": Family(320, 1, 200, False),
    # A frame is two mel frames of 400 samples, 160 apart.
    "wav2vec2-bert": Family(320, 1, 280, True),
    "wav2vec2-bert adapter": Family(640, 0, 280, False),
    "parakeet": Family(1280, 0, 0, True),
    # A frame depends on 895 samples.
    "moonshine": Family(384, 2, 447, True),
    # A frame depends on 1279 samples, of which neighbors share 511.
    "moonshine joined": Family(768, 1, 639, True),
}


class Loaded(NamedTuple):
    family: Family
    folder: Path
    model: TransformersCTC

    def windows(self, speech: FloatArray, *frames: int) -> list[FloatArray]:
        """Windows with these numbers of frames, from different places of the recording."""
        lengths = [count * self.family.frame_samples for count in frames]
        return [speech[4_000 * place :][:length] for place, length in enumerate(lengths, 1)]


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Loaded:
    folder = checkpoint(request.param)
    return Loaded(FAMILIES[request.param], folder, load_runner(folder, precision="float32"))


# --- frames -------------------------------------------------------------------------------------------------


def test_stride_and_padding_are_those_of_the_family(loaded: Loaded) -> None:
    assert loaded.model.name == str(loaded.folder)
    assert loaded.model.frame_samples == loaded.family.frame_samples
    assert loaded.model.pads == loaded.family.pads
    assert loaded.model.max_window_samples is None
    assert not loaded.model.batches_commit_windows, "on a CPU, the batch size changes the rounding"


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 25])
def test_window_of_any_length_yields_its_frames(loaded: Loaded, speech: FloatArray, frames: int) -> None:
    [window] = loaded.windows(speech, frames)
    [log_probs] = loaded.model.log_probs([window])
    assert log_probs.shape == (max(0, frames - loaded.family.missing_frames), len(loaded.model.labels.tokens))
    assert_normalized(log_probs)


def test_silence_yields_probabilities(loaded: Loaded) -> None:
    for frames in (1, 2, 5):
        [log_probs] = loaded.model.log_probs([np.zeros(frames * loaded.family.frame_samples, dtype=np.float32)])
        assert_normalized(log_probs)


def test_output_equals_plain_transformers(loaded: Loaded, speech: FloatArray) -> None:
    [window] = loaded.windows(speech, 24_000 // loaded.family.frame_samples)
    [log_probs] = loaded.model.log_probs([window])
    expected = plain_log_probs(loaded.folder, window)
    # Parakeet's last frame is masked, so it is not returned.
    assert len(expected) - len(log_probs) in (0, 1)
    np.testing.assert_allclose(log_probs, expected[: len(log_probs)], atol=1e-4)


@pytest.mark.parametrize("skipped", [0, 3])
def test_frames_lie_on_an_absolute_grid(loaded: Loaded, skipped: int) -> None:
    """Reversing a few samples changes the frame at their position, wherever the window begins.

    It changes neither mean nor variance of the window, so other frames change only through attention.
    """
    stride = loaded.family.frame_samples
    audio = np.random.default_rng(0).normal(scale=0.1, size=40 * stride).astype(np.float32)
    [before] = loaded.model.log_probs([audio[skipped * stride :]])
    changes = np.zeros(9)
    for frame in range(9, 34, 3):
        start = frame * stride + loaded.family.center - stride // 8
        changed = audio.copy()
        changed[start : start + stride // 4] = changed[start : start + stride // 4][::-1]
        [after] = loaded.model.log_probs([changed[skipped * stride :]])
        changes += np.linalg.norm(after - before, axis=1)[frame - skipped - 4 :][:9]
    # The convolutions of Wav2Vec2-BERT only look back, so later frames change as well.
    assert np.flatnonzero(changes > 0.75 * changes.max())[0] == 4, changes.round(1)


def test_frames_depend_mostly_on_nearby_audio(speech: FloatArray, checkpoint: Callable[[str], Path]) -> None:
    """Without normalization, two overlapping windows yield nearly the same frames for the same audio."""
    model = load_runner(checkpoint("wav2vec2 raw"))
    first, second = model.log_probs([speech[: 90 * 320], speech[10 * 320 : 100 * 320]])
    inner, aligned, misaligned = first[30:70], second[20:60], second[21:61]
    assert np.abs(inner - aligned).mean() < 0.2 * np.abs(inner - misaligned).mean()


# --- batches ------------------------------------------------------------------------------------------------


def test_batch_does_not_change_the_output(loaded: Loaded, speech: FloatArray) -> None:
    windows = loaded.windows(speech, 30, 30, 30)
    if loaded.model.pads:
        windows += loaded.windows(speech, 1, 7, 20, 43)
    for window, batched in zip(windows, loaded.model.log_probs(windows), strict=True):
        [alone] = loaded.model.log_probs([window])
        assert batched.shape == alone.shape
        np.testing.assert_allclose(batched, alone, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.pads and name != "wavlm"])
def test_padding_changes_the_output_of_models_that_do_not_pad(
    name: str, speech: FloatArray, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Group norm includes the padding in its statistics; convolutions after the mask carry padding back."""
    model = load_runner(checkpoint(name))
    window, longer = (speech[8_000 : 8_000 + frames * model.frame_samples] for frames in (20, 40))
    [alone] = model.log_probs([window])
    monkeypatch.setattr(model, "masks", True)
    batched, _ = model.log_probs([window, longer])
    assert np.abs(batched - alone).max() > 0.1


# --- labels -------------------------------------------------------------------------------------------------


def test_text_equals_that_of_the_tokenizer(loaded: Loaded, speech: FloatArray) -> None:
    tokenizer = AutoTokenizer.from_pretrained(loaded.folder)
    [log_probs] = loaded.model.log_probs(loaded.windows(speech, 75))
    best = log_probs.argmax(axis=1).tolist()
    assert len(set(best)) > 2, "a constant output proves nothing"
    labels = loaded.model.labels
    emitted = [index for index, token in enumerate(labels.tokens) if token] + [labels.blank]
    random = np.random.default_rng(0).choice(emitted, size=300).repeat(2).tolist()
    for ids in (best, random, random[1:]):
        # A vocabulary with capitals only is decoded in lower case.
        assert decode_ids(loaded.model, ids) == " ".join(str(tokenizer.decode(ids)).lower().split())


def test_special_tokens_have_no_text(loaded: Loaded) -> None:
    tokenizer, labels = AutoTokenizer.from_pretrained(loaded.folder), loaded.model.labels
    assert labels.blank == tokenizer.pad_token_id
    for token in (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id):
        assert token is None or labels.tokens[token] == ""
    assert labels.tokens == tuple(token.lower() for token in labels.tokens)
    assert any(token.startswith(" ") for token in labels.tokens)


def test_blank_defaults_to_the_padding_token_of_the_tokenizer(copied_checkpoint: Path) -> None:
    update_json(copied_checkpoint / "config.json", pad_token_id=None)
    assert load_runner(copied_checkpoint).labels.blank == 0


def test_vocabulary_with_both_cases_keeps_them(copied_checkpoint: Path) -> None:
    update_json(copied_checkpoint / "vocab.json", X=32, x=28)
    assert load_runner(copied_checkpoint).labels.tokens[5:7] == ("E", "T")


# --- variants of checkpoints --------------------------------------------------------------------------------


def test_checkpoint_saved_with_a_processor_loads(copied_checkpoint: Path) -> None:
    processor = Wav2Vec2Processor.from_pretrained(copied_checkpoint)
    (copied_checkpoint / "preprocessor_config.json").unlink()
    processor.save_pretrained(copied_checkpoint)
    assert not (copied_checkpoint / "preprocessor_config.json").exists()
    assert load_runner(copied_checkpoint).pads


def test_weights_for_training_may_be_missing(copied_checkpoint: Path) -> None:
    # facebook/wav2vec2-base-960h does not have them.
    filter_weights(copied_checkpoint, lambda name: not name.endswith("masked_spec_embed"))
    load_runner(copied_checkpoint)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_wrong_stride_in_the_configuration_is_reported(
    precision: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint("moonshine"), tmp_path / "copied"))
    update_json(folder / "config.json", inputs_to_logits_ratio=320)
    with pytest.raises(ModelError, match="states a stride of 320 samples, but its stride is 384"):
        load_runner(folder, precision=precision)


@pytest.mark.parametrize("name", ["wav2vec2 group norm", "wav2vec2 layer norm", "wav2vec2-bert", "parakeet"])
def test_int8_is_close_to_float32(name: str, speech: FloatArray, checkpoint: Callable[[str], Path]) -> None:
    window = speech[8_000 : 8_000 + 64_000]
    full, quantized = (load_runner(checkpoint(name), precision=precision) for precision in ("float32", "int8"))
    [expected], [log_probs] = full.log_probs([window]), quantized.log_probs([window])
    assert_normalized(log_probs)
    assert log_probs.shape == expected.shape
    assert not np.array_equal(log_probs, expected), "nothing was quantized"
    assert mean_difference(log_probs, expected) < 0.02
    assert quantized.parameters == full.parameters > 0


def test_model_that_does_not_run_in_int8_is_refused(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="does not run in int8; use precision float32"):
        load_runner(checkpoint("wavlm"), precision="int8")
