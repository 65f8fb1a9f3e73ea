"""Clips, data sets and prefetching."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError
from stream_asr.training.alphabet import Target
from stream_asr.training.augmentation import Augmentation, change_speed, synthetic_noise
from stream_asr.training.clips import measure_duration_s, read_clip
from stream_asr.training.dataset import Dataset, Utterance, prefetch

Clip = tuple[FloatArray, Target]
MAX_SAMPLES = 35_200


# --- clips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_excerpt_equals_the_same_part_of_the_recording(tmp_path: Path, speech: FloatArray, extension: str) -> None:
    path = tmp_path / f"speech.{extension}"
    soundfile.write(path, np.stack([speech[: 8 * 16_000]] * 2, axis=1), 16_000)
    whole, excerpt = read_clip(path), read_clip(path, 3.25, 5.5)
    assert excerpt.dtype == np.float32
    assert len(excerpt) == 36_000
    assert measure_duration_s(path) == len(whole) / 16_000
    # Lossy decoders need a few blocks to synchronize after a seek.
    np.testing.assert_allclose(
        excerpt[4_000:], whole[52_000:][4_000:36_000], atol=1e-4 if extension in ("wav", "flac") else 0.02
    )


def test_recording_is_resampled_to_16_khz(tmp_path: Path, speech: FloatArray) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, change_speed(speech[:32_000], 1 / 3), 48_000)
    excerpt = read_clip(path, 0.5, 1.5)
    assert len(excerpt) == pytest.approx(16_000, abs=2)
    assert np.corrcoef(excerpt[800:15_000], speech[8_800:23_000])[0, 1] > 0.99


def test_missing_recording_is_named_in_the_error() -> None:
    with pytest.raises(InputError, match=r"missing\.wav"):
        read_clip(Path("missing.wav"))


def test_recording_with_nan_samples_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"nan\.wav: .*nan"):
        measure_duration_s(path)


# --- data sets --------------------------------------------------------------------------------------------


class ListCollator:
    """Returns the clips of a batch as a list."""

    def fits(self, samples: int, target: Target) -> bool:
        return samples <= MAX_SAMPLES

    def collate(self, clips: Sequence[Clip], rng: np.random.Generator | None) -> list[Clip]:
        return list(clips)


@pytest.fixture
def utterances(tmp_path: Path, speech: FloatArray) -> list[Utterance]:
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech[:160_000], 16_000, subtype="FLOAT")
    durations_s = [2 + 0.01 * start for start in range(8)]
    return [
        Utterance(path, start, start + duration_s, duration_s, "", Target(str(start), (start,), ""))
        for start, duration_s in enumerate(durations_s)
    ]


def make_dataset(
    utterances: Sequence[Utterance], seed: int = 0, augmentation: Augmentation | None = None
) -> Dataset[list[Clip]]:
    return Dataset(utterances, ListCollator(), batch_s=5.0, seed=seed, augmentation=augmentation)


def test_batches_contain_the_clips_of_their_utterances(utterances: list[Utterance]) -> None:
    dataset = make_dataset(utterances)
    batches = list(dataset.epoch(0))
    assert len(batches) == dataset.count(0) == 4
    for index, batch in enumerate(batches):
        for (samples, target), utterance in zip(batch, dataset.utterances_of(0, index), strict=True):
            assert target is utterance.target
            np.testing.assert_array_equal(samples, read_clip(utterance.path, utterance.start_s, utterance.end_s))


def test_epoch_started_in_the_middle_gives_the_same_batches(utterances: list[Utterance]) -> None:
    augmentation = Augmentation(speed=True, noise=synthetic_noise)
    first, second = (make_dataset(utterances, seed=3, augmentation=augmentation) for _ in range(2))
    for expected, actual in zip(list(first.epoch(1))[2:], second.epoch(1, start=2), strict=True):
        for (samples, _), (repeated, _) in zip(expected, actual, strict=True):
            np.testing.assert_array_equal(samples, repeated)


def test_epochs_and_seeds_give_different_batches(utterances: list[Utterance]) -> None:
    def texts(seed: int, epoch: int) -> list[list[str]]:
        return [[target.text for _, target in batch] for batch in make_dataset(utterances, seed).epoch(epoch)]

    assert texts(0, 0) == texts(0, 0)
    assert len({str(texts(seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))}) == 3


def test_clip_that_would_not_fit_keeps_its_speed(utterances: list[Utterance]) -> None:
    longest = Utterance(utterances[0].path, 0.0, MAX_SAMPLES / 16_000, MAX_SAMPLES / 16_000, "", utterances[0].target)
    dataset = make_dataset([longest], augmentation=Augmentation(speed=True))
    lengths = {len(samples) for epoch in range(12) for batch in dataset.epoch(epoch) for samples, _ in batch}
    assert max(lengths) == MAX_SAMPLES
    assert len(lengths) > 1


def test_recording_deleted_during_training_is_named_in_the_error(utterances: list[Utterance]) -> None:
    dataset = make_dataset(utterances)
    utterances[0].path.unlink()
    with pytest.raises(InputError, match=r"speech\.wav"):
        list(dataset.epoch(0))


# --- prefetching ------------------------------------------------------------------------------------------


def test_prefetch_is_bounded_and_ends_its_threads() -> None:
    started: list[int] = []

    def task(number: int) -> int:
        started.append(number)
        return number

    results = prefetch(partial(task, number) for number in range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(started) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_prefetch_yields_results_in_order() -> None:
    def task(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(prefetch(partial(task, number) for number in range(10))) == list(range(10))
