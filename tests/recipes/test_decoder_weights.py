"""Reading the pretrained decoder, and writing it into a model's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from recipes.embedded_en import add_decoder, compare_decoder, package_files
from recipes.embedded_en.decoder_weights import SIZES, read_pieces
from recipes.embedded_en.export import export_decoder
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.moonshine.decoder_checkpoint import read_decoder
from stream_asr.acoustic.moonshine.decoder_onnx import has_graphs
from tests.support.decoders import SMALL, make_checkpoint


def test_pieces_of_a_tokenizer_file(tmp_path: Path) -> None:
    pieces = [b"<unk>", b"<s>", b"</s>", b"\xe2", "▁the".encode(), b"x" * 200, b"<<ST_17>>"]
    lengths = [bytes([len(piece)]) if len(piece) < 128 else bytes([128 + 200 % 128, 200 // 128]) for piece in pieces]
    file = tmp_path / "tokenizer.bin"
    file.write_bytes(b"".join(length + piece for length, piece in zip(lengths, pieces, strict=True)))
    assert read_pieces(file) == (b"", b"", b"", b"\xe2", b" the", b"x" * 200, b"")


def test_bundled_decoder_has_the_sizes_of_the_recipe() -> None:
    decoder = read_decoder(EMBEDDED_FOLDER, "embedded-en")
    assert decoder is not None
    assert decoder.sizes == SIZES


@pytest.mark.slow
def test_decoder_is_exported_with_its_graphs(tmp_path: Path) -> None:
    export_decoder(make_checkpoint(), tmp_path)
    decoder = read_decoder(tmp_path, "small")
    assert decoder is not None
    assert all(has_graphs(tmp_path, SMALL, int8=int8) for int8 in (False, True))


@pytest.mark.parametrize("app", [add_decoder.app, compare_decoder.app])
def test_missing_package_is_an_error_that_names_it(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_files, "PACKAGE", "no_such_package")
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 1
    assert "pip install --no-deps moonshine-voice==0.0.62" in result.output
