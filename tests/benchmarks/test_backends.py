"""Comparison of backends."""

from __future__ import annotations

from pathlib import Path

import backends
import pytest

from stream_asr.array_types import FloatArray


@pytest.mark.slow
def test_backends_agree_and_int8_differs_slightly(speech: FloatArray, tmp_path: Path) -> None:
    variants = backends.load_variants(None)
    backends.run_all(variants, speech[: 2 * 16_000])
    by_name = {variant.name: variant for variant in variants}
    assert list(by_name) == ["torch, float32", "torch, int8", "onnxruntime, float32", "onnxruntime, int8"]
    assert len({len(variant.windows_s) for variant in variants}) == 1
    assert max(by_name["onnxruntime, float32"].differences) < 1e-3
    for name in ("torch, int8", "onnxruntime, int8"):
        assert 1e-3 < by_name[name].difference < 1
    first, *_ = backends.variant_table(variants, 384).rows
    assert first[3] == "1.00", "relative to itself"
    backends.plot_variants(tmp_path / "variants.svg", variants)
    assert (tmp_path / "variants.svg").stat().st_size > 1000
