"""What the frozen layers of a model make of a corpus, worked out once instead of in each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stream_asr.acoustic.moonshine_ctc import MoonshineForCTC
from stream_asr.config import SAMPLE_RATE
from stream_asr.training.embedded.corpus import ARRAY, Corpus, Recording, save_index
from stream_asr.training.embedded.disturbance import Disturbance, disturbed
from stream_asr.training.embedded.segments import Pause

STRIDE_SAMPLES = 384
RATE = SAMPLE_RATE / STRIDE_SAMPLES
"""Frames a second before frames are joined."""


@torch.inference_mode()
def save_states(
    corpus: Corpus,
    model: MoonshineForCTC,
    copies: Sequence[Disturbance | None],
    seed: int,
    folder: Path,
    working: Callable[[int, int], None],
) -> None:
    """Write the states of a corpus as a `Corpus` of rate `RATE`.

    Args:
        copies: of each recording, and how each copy is disturbed; None for not at all.
        working: called with how many are done, and of how many.
    """
    model.train(False)
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Recording] = []
    offset, total = 0, len(copies) * len(corpus.recordings)
    most = sum(_most_frames(corpus, copy) for copy in copies)
    width = model.config.hidden_size
    # As long as it may get: what is left over at its end takes no room on the disk.
    array = np.lib.format.open_memmap(folder / ARRAY, mode="w+", dtype=np.float16, shape=(most, width))
    for number, copy in enumerate(copies):
        for place, recording in enumerate(corpus.recordings):
            working(len(found), total)
            samples = corpus.clip(recording)
            if copy is not None:
                samples = disturbed(samples, copy, np.random.default_rng((seed, number, place)))
            features = model.encoder.features(torch.from_numpy(samples)[None])
            states = model.encoder.lower(features)[0].numpy()
            array[offset : offset + len(states)] = states
            frame = STRIDE_SAMPLES * recording.length / len(samples)
            pauses = tuple(Pause(pause.word, round(pause.at / frame)) for pause in recording.pauses)
            found.append(replace(recording, offset=offset, length=len(states), pauses=pauses))
            offset += len(states)
    array.flush()
    save_index(found, folder)


def _most_frames(corpus: Corpus, copy: Disturbance | None) -> int:
    slowest = 1.0 if copy is None else min(1.0, copy.speed[0])
    return sum(int(recording.length / slowest) // STRIDE_SAMPLES + 1 for recording in corpus.recordings)
