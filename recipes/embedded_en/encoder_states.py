"""Outputs of the frozen layers (states), computed once for all epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.embedded_en.augmentation import StreamingWindows, Variant, perturb
from recipes.embedded_en.corpus import ARRAY, Corpus, Recording, save_index
from recipes.embedded_en.segments import Pause
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.moonshine.transformers import MoonshineForCTC
from stream_asr.config import SAMPLE_RATE

STRIDE_SAMPLES = 384
STATE_RATE = SAMPLE_RATE / STRIDE_SAMPLES
"""States per second."""


@torch.inference_mode()
def save_encoder_states(
    corpus: Corpus,
    model: MoonshineForCTC,
    variants: Sequence[Variant],
    seed: int,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write the states of a corpus as a `Corpus` of rate `STATE_RATE`.

    Args:
        corpus: recordings as samples.
        model: a model with the frozen layers.
        variants: variants of each recording.
        seed: seed of the random changes.
        folder: folder for the states.
        on_progress: called with the number of recordings done and the total number.
    """
    encoder = model.train(False).encoder
    lower = _lower_encoder(encoder)
    folder.mkdir(parents=True, exist_ok=True)
    recordings: list[Recording] = []
    offset, total = 0, len(variants) * len(corpus.recordings)
    max_frames = sum(_max_frames(corpus, variant) for variant in variants)
    # The file is sparse: its unused end takes no space on disk.
    array = np.lib.format.open_memmap(
        folder / ARRAY, mode="w+", dtype=np.float16, shape=(max_frames, model.config.hidden_size)
    )
    for variant_index, variant in enumerate(variants):
        for recording_index, recording in enumerate(corpus.recordings):
            on_progress(len(recordings), total)
            samples = corpus.clip(recording)
            rng = np.random.default_rng((seed, variant_index, recording_index))
            if variant.perturbation is not None:
                samples = perturb(samples, variant.perturbation, rng)
            waveform = torch.from_numpy(samples)
            if variant.streaming is None:
                states = encoder.lower(encoder.features(waveform[None]))[0]
            else:
                states = _streamed_states(lower, waveform, variant.streaming, rng)
            array[offset : offset + len(states)] = states.numpy()
            # Original samples per state: a perturbed recording may be longer or shorter.
            stride = STRIDE_SAMPLES * recording.length / len(samples)
            pauses = tuple(Pause(pause.word, round(pause.at / stride)) for pause in recording.pauses)
            recordings.append(replace(recording, offset=offset, length=len(states), pauses=pauses))
            offset += len(states)
    array.flush()
    save_index(recordings, folder)


def _lower_encoder(encoder: Encoder) -> Encoder:
    """Return the layers before frames are joined as an encoder."""
    lower = Encoder(replace(encoder.sizes, layers=0, joined_after=None)).train(False)
    lower.load_state_dict(encoder.state_dict(), strict=False)
    lower.layers = encoder.layers[: encoder.joined_after]
    lower.layer_norm = torch.nn.Identity()
    return lower


def _streamed_states(encoder: Encoder, samples: Tensor, windows: StreamingWindows, rng: np.random.Generator) -> Tensor:
    """Return the states of a recording that is passed through the encoder in windows of random size."""
    kept, right = (int(rng.integers(low, high + 1)) for low, high in (windows.kept_frames, windows.right_frames))
    state, parts = EncoderState(windows.left_frames), []
    for start in range(0, len(samples), kept * STRIDE_SAMPLES):
        window = samples[start:][: (kept + right) * STRIDE_SAMPLES]
        states, _, state, _ = forward_chunk(encoder, window, kept * STRIDE_SAMPLES, state)
        if start + (kept + right) * STRIDE_SAMPLES >= len(samples):
            parts.append(states[0])
            break
        parts.append(states[0, :kept])
    return torch.cat(parts)


def _max_frames(corpus: Corpus, variant: Variant) -> int:
    min_speed = 1.0 if variant.perturbation is None else min(1.0, variant.perturbation.speed[0])
    return sum(int(recording.length / min_speed) // STRIDE_SAMPLES + 1 for recording in corpus.recordings)
