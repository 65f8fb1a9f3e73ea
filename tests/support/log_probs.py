"""Checks and readings of a model's log-probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForCTC

from stream_asr.acoustic.transformers_ctc import TransformersCTC
from stream_asr.array_types import FloatArray
from stream_asr.decoding.ctc import BestPath, decode


def assert_normalized(log_probs: FloatArray) -> None:
    """Assert that each frame is a probability distribution."""
    assert log_probs.dtype == np.float32
    assert np.isfinite(log_probs).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-4)


def mean_difference(found: FloatArray, expected: FloatArray) -> float:
    """Mean absolute difference of probabilities."""
    return float(np.abs(np.exp(found) - np.exp(expected)).mean())


def decode_ids(model: TransformersCTC, ids: list[int]) -> str:
    """Return the text of one output token per frame."""
    path = BestPath(0, np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.float32))
    return decode(path, model.labels, model.frame_samples).text


def plain_log_probs(folder: Path, window: FloatArray) -> FloatArray:
    """Run a checkpoint as the documentation of Transformers describes."""
    features = AutoFeatureExtractor.from_pretrained(folder)(window, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        logits = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).eval()(**features).logits
    log_probs: FloatArray = logits[0].log_softmax(-1).numpy()
    return log_probs
