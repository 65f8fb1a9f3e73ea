"""Files of a decoder: eight bits or floating point, and errors for damaged ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.decoder_checkpoint import (
    CONFIG_FILE,
    EMBEDDING,
    WEIGHTS_FILE,
    DecoderCheckpoint,
    QuantizedWeight,
    float_weights,
    load_decoder,
    read_decoder,
    save_decoder,
)
from stream_asr.errors import ModelError
from tests.support.checkpoints import update_json
from tests.support.decoders import make_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundled() -> DecoderCheckpoint:
    decoder = read_decoder(EMBEDDED_FOLDER, "embedded-en")
    assert decoder is not None
    return decoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with the files of a small decoder, for a test to change."""
    save_decoder(tmp_path, make_checkpoint())
    return tmp_path


def test_bundled_decoder_is_stored_in_eight_bits(bundled: DecoderCheckpoint) -> None:
    assert bundled.sizes.tokens == len(bundled.vocabulary.pieces) == 32_768
    assert (EMBEDDED_FOLDER / WEIGHTS_FILE).stat().st_size < 19_600_000
    assert sum(isinstance(weight, QuantizedWeight) for weight in bundled.weights.values()) == 1 + 6 * 10
    embedding = bundled.weights[EMBEDDING]
    assert isinstance(embedding, QuantizedWeight)
    assert len(set(embedding.scales.tolist())) == 1, "one scale, as in the original"


def test_vocabulary_has_bytes_and_words(bundled: DecoderCheckpoint) -> None:
    pieces = bundled.vocabulary.pieces
    assert [pieces[token] for token in (0, bundled.begin, bundled.vocabulary.end)] == 3 * [b""]
    assert [pieces[3 + byte] for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert {b" the", b"ing", b"er"} <= set(pieces)
    assert bundled.vocabulary.text([3 + byte for byte in "né".encode()]) == "né"
    assert bundled.vocabulary.text([3 + 0xC3]) == "\ufffd"


def test_quantized_weights_survive_a_round_trip(bundled: DecoderCheckpoint, tmp_path: Path) -> None:
    save_decoder(tmp_path, bundled)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / file).read_bytes() == (EMBEDDED_FOLDER / file).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_trained_weights_survive_a_round_trip(dtype: torch.dtype, folder: Path) -> None:
    checkpoint = read_decoder(folder, "small")
    assert checkpoint is not None
    decoder = load_decoder(checkpoint)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.25)
    trained = DecoderCheckpoint(
        checkpoint.sizes, checkpoint.begin, checkpoint.vocabulary, float_weights(decoder, dtype)
    )
    save_decoder(folder, trained)
    read = read_decoder(folder, "small")
    assert read is not None
    assert (read.sizes, read.begin, read.vocabulary) == (trained.sizes, trained.begin, trained.vocabulary)
    for name, expected in decoder.state_dict().items():
        weight = read.weights[name]
        assert isinstance(weight, np.ndarray)
        torch.testing.assert_close(torch.from_numpy(weight), expected.to(dtype))


def test_folder_without_a_decoder(tmp_path: Path) -> None:
    assert read_decoder(tmp_path, "x") is None


def _rename_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    weights["other"] = weights.pop("norm.weight")
    save_file(weights, folder / WEIGHTS_FILE)


def _reshape_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    weights["norm.weight"] = np.zeros(3, dtype=np.float32)
    save_file(weights, folder / WEIGHTS_FILE)


def _change_type_of_quantized_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    weight = weights.pop(EMBEDDING)
    weights |= {
        f"{EMBEDDING}.quantized": weight.T.astype(np.uint8),
        f"{EMBEDDING}.scale": np.ones((), dtype=np.float32),
        f"{EMBEDDING}.zero_point": np.zeros((), dtype=np.uint8),
    }
    save_file(weights, folder / WEIGHTS_FILE)


def _remove_pieces(folder: Path) -> None:
    update_json(folder / CONFIG_FILE, pieces=json.loads((folder / CONFIG_FILE).read_text())["pieces"][:-1])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), "Expecting property name"),
        (lambda folder: update_json(folder / CONFIG_FILE, sizes={"width": 64}), "missing 6 required"),
        (lambda folder: update_json(folder / CONFIG_FILE, end=50), "special tokens are out of range"),
        (_remove_pieces, "49 tokens instead of 50"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes(b"\x08"), "[Hh]eader"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "No such file"),
        (_rename_weight, "norm.weight is missing"),
        (_reshape_weight, r"norm.weight is float32 of shape \(3,\), not float of shape \(64,\)"),
        (_change_type_of_quantized_weight, "is uint8 of shape .*, not int8"),
    ],
)
def test_damaged_decoder_is_an_error(damage: Callable[[Path], object], reason: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=rf"^cannot load the decoder of 'small' .*: .*{reason}") as caught:
        read_decoder(folder, "small")
    assert "\n" not in str(caught.value)


def test_damaged_decoder_of_a_model_is_reported(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "copied"))
    (copied / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=r"cannot load the decoder of '/.*copied'"):
        load_model(copied, device="cpu")


def test_model_without_a_decoder_has_no_second_pass(tmp_path: Path) -> None:
    copied = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "copied"))
    (copied / CONFIG_FILE).unlink()
    assert load_model(copied, device="cpu").second_pass is None
