"""What the frozen layers of a model make of a corpus, worked out once instead of in each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.embedded_en.copies import Copy, Streamed
from recipes.embedded_en.corpus import ARRAY, Corpus, Recording, save_index
from recipes.embedded_en.disturbance import disturbed
from recipes.embedded_en.segments import Pause
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.moonshine.transformers import MoonshineForCTC
from stream_asr.config import SAMPLE_RATE

STRIDE_SAMPLES = 384
RATE = SAMPLE_RATE / STRIDE_SAMPLES
"""Frames a second before frames are joined."""


@torch.inference_mode()
def save_states(
    corpus: Corpus,
    model: MoonshineForCTC,
    copies: Sequence[Copy],
    seed: int,
    folder: Path,
    working: Callable[[int, int], None],
) -> None:
    """Write the states of a corpus as a `Corpus` of rate `RATE`.

    Args:
        copies: of each recording.
        working: called with how many are done, and of how many.
    """
    encoder = model.train(False).encoder
    lower = _lower(encoder)
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
            rng = np.random.default_rng((seed, number, place))
            if copy.disturbance is not None:
                samples = disturbed(samples, copy.disturbance, rng)
            heard = torch.from_numpy(samples)
            if copy.streamed is None:
                states = encoder.lower(encoder.features(heard[None]))[0]
            else:
                states = _streamed(lower, heard, copy.streamed, rng)
            array[offset : offset + len(states)] = states.numpy()
            frame = STRIDE_SAMPLES * recording.length / len(samples)
            pauses = tuple(Pause(pause.word, round(pause.at / frame)) for pause in recording.pauses)
            found.append(replace(recording, offset=offset, length=len(states), pauses=pauses))
            offset += len(states)
    array.flush()
    save_index(found, folder)


def _lower(encoder: Encoder) -> Encoder:
    """The layers before the joining as an encoder of their own."""
    lower = Encoder(replace(encoder.sizes, layers=0, joined_after=None)).train(False)
    lower.load_state_dict(encoder.state_dict(), strict=False)
    lower.layers = encoder.layers[: encoder.joined_after]
    lower.layer_norm = torch.nn.Identity()
    return lower


def _streamed(encoder: Encoder, samples: Tensor, how: Streamed, rng: np.random.Generator) -> Tensor:
    kept, right = (int(rng.integers(low, high + 1)) for low, high in (how.kept_steps, how.right_steps))
    state, made = EncoderState(how.left_steps), []
    for start in range(0, len(samples), kept * STRIDE_SAMPLES):
        piece = samples[start:][: (kept + right) * STRIDE_SAMPLES]
        states, state = forward_chunk(encoder, piece, kept * STRIDE_SAMPLES, state)
        if start + (kept + right) * STRIDE_SAMPLES >= len(samples):
            made.append(states[0])
            break
        made.append(states[0, :kept])
    return torch.cat(made)


def _most_frames(corpus: Corpus, copy: Copy) -> int:
    slowest = 1.0 if copy.disturbance is None else min(1.0, copy.disturbance.speed[0])
    return sum(int(recording.length / slowest) // STRIDE_SAMPLES + 1 for recording in corpus.recordings)
