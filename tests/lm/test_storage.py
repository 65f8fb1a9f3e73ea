from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from stream_asr.errors import InputError
from stream_asr.lm.kneser_ney import estimate
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.storage import load, save
from tests.support.lm import PARAGRAPHS


def to_bytes(model: NgramModel) -> bytes:
    file = io.BytesIO()
    save(model, file)
    return file.getvalue()


def test_saved_model_loads_as_the_same_model(tmp_path: Path) -> None:
    model = estimate(PARAGRAPHS, order=3, about="three lines")
    path = tmp_path / "lines.lm"
    path.write_bytes(to_bytes(model))
    loaded = load(path)
    assert (loaded.vocabulary, loaded.about, loaded.order) == (model.vocabulary, "three lines", 3)
    for expected, level in zip(model.levels, loaded.levels, strict=True):
        for name in ("words", "costs", "backoffs", "children"):
            np.testing.assert_array_equal(getattr(level, name), getattr(expected, name))
    assert to_bytes(loaded) == to_bytes(model)


def test_pronunciations_in_older_files_are_ignored(tmp_path: Path) -> None:
    model = estimate(PARAGRAPHS)
    with np.load(io.BytesIO(to_bytes(model))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(arrays["header"].tobytes()) | {"phones": ["AA", "K"]}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    arrays |= {"pronunciations": np.zeros(3, dtype=np.uint8), "pronounced": np.zeros(2, dtype=np.uint16)}
    with open(tmp_path / "older.lm", "wb") as file:
        np.savez_compressed(file, **arrays)
    assert to_bytes(load(tmp_path / "older.lm")) == to_bytes(model)


def test_missing_file_and_folder_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no language model"):
        load(tmp_path / "none.lm")
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["empty", "arpa", "truncated", "other archive"])
def test_other_files_are_rejected(tmp_path: Path, content: str) -> None:
    model = to_bytes(estimate(PARAGRAPHS))
    archive = io.BytesIO()
    np.savez(archive, words=np.zeros(3))
    contents = {
        "empty": b"",
        "arpa": b"\\data\\\nngram 1=3\n",
        "truncated": model[: len(model) // 2],
        "other archive": archive.getvalue(),
    }
    path = tmp_path / "other.lm"
    path.write_bytes(contents[content])
    with pytest.raises(InputError, match="lm build"):
        load(path)
