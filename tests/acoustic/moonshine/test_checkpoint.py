"""The bundled model, and checkpoints with its architecture."""

from __future__ import annotations

import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCTC

from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.moonshine import transformers as moonshine_transformers
from stream_asr.acoustic.moonshine.checkpoint import Network
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.errors import ModelError
from tests.support.checkpoints import filter_weights, load_runner, update_json
from tests.support.log_probs import assert_normalized, decode_ids, mean_difference, plain_log_probs

pytestmark = pytest.mark.usefixtures("one_thread")

FRAME = 768


@pytest.fixture
def copied_folder(tmp_path: Path) -> Path:
    """Folder with a copy of the bundled model, for a test to change."""
    return Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "copied"))


# --- the folder ---------------------------------------------------------------------------------------------


def test_folder_is_a_transformers_checkpoint(speech: FloatArray, embedded: TransformersCTC) -> None:
    moonshine_transformers.register()
    assert isinstance(AutoConfig.from_pretrained(EMBEDDED_FOLDER), MoonshineCTCConfig)
    model = AutoModelForCTC.from_pretrained(EMBEDDED_FOLDER)
    assert isinstance(model, MoonshineForCTC)
    assert sum(parameter.numel() for parameter in model.parameters()) < 12_000_000
    window = speech[: 60 * FRAME]
    np.testing.assert_allclose(embedded.log_probs([window])[0], plain_log_probs(EMBEDDED_FOLDER, window), atol=1e-2)


def test_folder_is_small() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED_FOLDER.iterdir()) < 40 * 2**20


def test_vocabulary_consists_of_lower_case_subwords(embedded: TransformersCTC) -> None:
    assert embedded.name == "embedded-en"
    assert embedded.labels.blank == 0
    assert not embedded.labels.uppercase
    tokens = embedded.labels.tokens
    assert tokens[0] == ""
    assert len(set(tokens)) == len(tokens) == 481
    assert {" ", "'", *string.ascii_lowercase} <= set(tokens), "every word can be written"
    assert {" the", " of", "ing"} <= set(tokens)


# --- recognition --------------------------------------------------------------------------------------------


def test_recording_is_recognized(speech: FloatArray, embedded: TransformersCTC) -> None:
    [log_probs] = embedded.log_probs([speech[:48_000]])
    assert len(log_probs) == 61
    assert_normalized(log_probs)
    assert decode_ids(embedded, log_probs.argmax(axis=1).tolist()).startswith("good morning")


def test_words_move_with_the_audio(speech: FloatArray, embedded: TransformersCTC) -> None:
    def starts(samples: FloatArray) -> dict[str, float]:
        path = BestPath.from_log_probs(embedded.log_probs([samples])[0], 0)
        return {word.word: word.start for word in decode(path, embedded.labels, embedded.frame_samples).words}

    early, late = starts(speech[:48_000]), starts(np.pad(speech[:48_000], (25 * FRAME, 0)))
    for word in ("good", "morning"):
        assert late[word] - early[word] == pytest.approx(1.2, abs=0.097)


def test_windows_may_be_longer_or_shorter_than_any_utterance(embedded: TransformersCTC) -> None:
    assert embedded.max_window_samples is None
    for strides, frames in ((1, 0), (3, 2), (625, 624)):
        [log_probs] = embedded.log_probs([np.zeros(strides * FRAME, dtype=np.float32)])
        assert len(log_probs) == frames
        assert_normalized(log_probs)


def test_windows_of_different_lengths_share_a_batch(speech: FloatArray, embedded: TransformersCTC) -> None:
    assert embedded.pads
    windows = [speech[start:][: frames * FRAME] for start, frames in ((8_000, 50), (24_000, 50), (9_000, 20))]
    for window, batched in zip(windows, embedded.log_probs(windows), strict=True):
        np.testing.assert_allclose(batched, embedded.log_probs([window])[0], atol=1e-2)


def test_int8_recognizes_nearly_the_same(speech: FloatArray, embedded: TransformersCTC) -> None:
    window, quantized = speech[:48_000], load_runner(precision="int8")
    [expected], [log_probs] = embedded.log_probs([window]), quantized.log_probs([window])
    assert_normalized(log_probs)
    assert mean_difference(log_probs, expected) < 0.005
    assert (log_probs.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9


# --- reading without Transformers ---------------------------------------------------------------------------


def test_reader_equals_transformers(speech: FloatArray, embedded: TransformersCTC) -> None:
    pretrained = load_pretrained()
    reference = TransformersCTC(
        pretrained.name,
        pretrained.model.eval(),
        pretrained.feature_extractor,
        pretrained.labels,
        device=torch.device("cpu"),
    )
    assert isinstance(embedded.model, Network)
    assert isinstance(reference.model, MoonshineForCTC)
    for name in ("name", "labels", "language_model", "frame_samples", "pads", "masks", "min_samples"):
        assert getattr(embedded, name) == getattr(reference, name), name
    windows = [speech[: 50 * FRAME], speech[9_000:][: 20 * FRAME]]
    for batch in (windows, windows[:1]):
        for found, expected in zip(embedded.log_probs(batch), reference.log_probs(batch), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_mask_embedding_starts_at_zero() -> None:
    """No file contains it. In uninitialized memory, it made the losses of fine-tuning NaN."""
    assert not load_pretrained().model.masked_spec_embed.any()


def test_weights_of_the_former_phone_head_are_ignored(
    speech: FloatArray, embedded: TransformersCTC, copied_folder: Path
) -> None:
    weights = load_file(copied_folder / "model.safetensors") | {"phone_head.fc1.weight": torch.ones(4, 288)}
    save_file(weights, copied_folder / "model.safetensors", {"format": "pt"})
    update_json(copied_folder / "config.json", phones=["AA", "K"], phone_width=4)
    model = load_runner(copied_folder, precision="float32")
    assert isinstance(model.model, Network)
    assert model.labels == embedded.labels == load_pretrained(copied_folder).labels
    window = speech[: 50 * FRAME]
    np.testing.assert_array_equal(model.log_probs([window])[0], embedded.log_probs([window])[0])


@pytest.mark.parametrize(
    ("defect", "message"), [("weights", "conv2"), ("tokenizer", "tokenizer"), ("sampling rate", "8000 Hz")]
)
def test_damaged_checkpoint_gets_the_error_of_transformers(defect: str, message: str, copied_folder: Path) -> None:
    if defect == "weights":
        filter_weights(copied_folder, lambda name: "conv2" not in name)
    elif defect == "tokenizer":
        (copied_folder / "tokenizer.json").write_text("{")
    else:
        update_json(copied_folder / "preprocessor_config.json", sampling_rate=8_000)
    with pytest.raises(ModelError, match=message):
        load_runner(copied_folder)
