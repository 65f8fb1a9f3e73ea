"""Batches, data sets and augmentation: nothing lost, nothing too long, the same again for the same seed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stream_asr.array_types import FloatArray
from stream_asr.errors import InputError
from stream_asr.training.alphabet import TokenGraph
from stream_asr.training.augment import (
    Augmentation,
    Holes,
    RecordedNoise,
    at_speed,
    synthetic_noise,
    with_noise,
)
from stream_asr.training.batches import plan
from stream_asr.training.clips import measure, read_clip
from stream_asr.training.dataset import Dataset, Utterance, ahead

LENGTHS = st.lists(st.floats(0.1, 30), min_size=1, max_size=60)


@given(LENGTHS, st.floats(1, 100), st.integers(0, 9))
def test_each_utterance_is_in_one_batch(lengths: list[float], limit: float, seed: int) -> None:
    batches = plan(lengths, limit, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@given(LENGTHS, st.floats(1, 100), st.integers(0, 9))
def test_no_batch_is_too_long_with_its_padding(lengths: list[float], limit: float, seed: int) -> None:
    for batch in plan(lengths, limit, np.random.default_rng(seed)):
        assert batch
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= limit


@given(LENGTHS, st.integers(0, 9))
def test_neighbours_have_about_one_length(lengths: list[float], seed: int) -> None:
    for batch in plan(lengths, 60, np.random.default_rng(seed)):
        inside = sorted(lengths[index] for index in batch)
        between = [length for length in lengths if inside[0] * 1.1 < length < inside[-1] / 1.1]
        assert len(between) <= len(inside)


@given(LENGTHS, st.integers(0, 9))
def test_the_same_seed_gives_the_same_batches(lengths: list[float], seed: int) -> None:
    first, second = (plan(lengths, 40, np.random.default_rng(seed)) for _ in range(2))
    assert first == second


def test_another_seed_gives_other_neighbours_and_another_order() -> None:
    lengths = np.random.default_rng(0).uniform(1, 20, size=200).tolist()
    first, second = (plan(lengths, 40, np.random.default_rng(seed)) for seed in (0, 1))
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    longest = [max(lengths[index] for index in batch) for batch in first]
    assert longest != sorted(longest)


# --- clips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_part_of_a_recording_is_that_part(tmp_path: Path, speech: FloatArray, ending: str) -> None:
    path = tmp_path / f"speech.{ending}"
    soundfile.write(path, np.stack([speech[: 8 * 16_000]] * 2, axis=1), 16_000)
    whole, part = read_clip(path), read_clip(path, 3.25, 5.5)
    assert part.dtype == np.float32
    assert len(part) == 36_000
    assert measure(path) == len(whole) / 16_000
    # Decoders that start in the middle of a lossy file need a few blocks to find their way.
    np.testing.assert_allclose(
        part[4_000:], whole[52_000:][4_000:36_000], atol=1e-4 if ending in ("wav", "flac") else 0.02
    )


def test_a_recording_at_another_rate(tmp_path: Path, speech: FloatArray) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, at_speed(speech[:32_000], 1 / 3), 48_000)
    part = read_clip(path, 0.5, 1.5)
    assert len(part) == pytest.approx(16_000, abs=2)
    assert np.corrcoef(part[800:15_000], speech[8_800:23_000])[0, 1] > 0.99


def test_a_recording_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nowhere\.wav"):
        read_clip(Path("nowhere.wav"))


def test_nonsense_in_a_recording_names_it(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"nan\.wav: sample value nan at 0\.000 s"):
        measure(path)


# --- data sets --------------------------------------------------------------------------------------------


class Lists:
    """Batches are what they are made of. Clips above 2.2 s do not fit."""

    def fits(self, samples: int, spelling: TokenGraph) -> bool:
        return samples <= 35_200

    def batch(
        self, clips: Sequence[tuple[FloatArray, TokenGraph]], rng: np.random.Generator | None
    ) -> list[tuple[FloatArray, TokenGraph]]:
        return list(clips)


@pytest.fixture
def utterances(tmp_path: Path, speech: FloatArray) -> list[Utterance]:
    soundfile.write(tmp_path / "speech.wav", speech[:160_000], 16_000, subtype="FLOAT")
    return [
        Utterance(
            tmp_path / "speech.wav",
            start,
            start + 2 + 0.01 * start,
            2 + 0.01 * start,
            "",
            TokenGraph(str(start), (start,), ""),
        )
        for start in range(8)
    ]


def dataset(utterances: Sequence[Utterance], **options: object) -> Dataset[list[tuple[FloatArray, TokenGraph]]]:
    return Dataset(utterances, Lists(), batch_s=5.0, **options)  # type: ignore[arg-type]


def test_batches_hold_the_clips_of_their_members(utterances: list[Utterance]) -> None:
    data = dataset(utterances)
    batches = list(data.epoch(0))
    assert len(batches) == data.count(0) == 4
    for place, batch in enumerate(batches):
        for (samples, spelling), member in zip(batch, data.members(0, place), strict=True):
            assert spelling is member.spelling
            np.testing.assert_array_equal(samples, read_clip(member.path, member.start_s, member.end_s))


def test_any_place_of_any_epoch_can_be_gone_back_to(utterances: list[Utterance]) -> None:
    augmentation = Augmentation(speed=True, noise=synthetic_noise)
    first, second = (dataset(utterances, seed=3, augmentation=augmentation) for _ in range(2))
    for whole, part in zip(list(first.epoch(1))[2:], second.epoch(1, start=2), strict=True):
        for (samples, _), (again, _) in zip(whole, part, strict=True):
            np.testing.assert_array_equal(samples, again)


def test_epochs_and_seeds_differ(utterances: list[Utterance]) -> None:
    def texts(seed: int, epoch: int) -> list[list[str]]:
        return [[spelling.text for _, spelling in batch] for batch in dataset(utterances, seed=seed).epoch(epoch)]

    assert texts(0, 0) == texts(0, 0)
    assert len({str(texts(seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))}) == 3


def test_a_clip_that_would_not_fit_keeps_its_speed(utterances: list[Utterance]) -> None:
    long = Utterance(utterances[0].path, 0.0, 2.2, 2.2, "", utterances[0].spelling)
    data = dataset([long], augmentation=Augmentation(speed=True))
    lengths = {len(samples) for epoch in range(12) for batch in data.epoch(epoch) for samples, _ in batch}
    assert max(lengths) == 35_200, "one that became longer was kept as it was"
    assert len(lengths) > 1


def test_a_recording_that_went_away_is_named(utterances: list[Utterance]) -> None:
    data = dataset(utterances)
    utterances[0].path.unlink()
    with pytest.raises(InputError, match=r"speech\.wav"):
        list(data.epoch(0))


def test_jobs_are_done_ahead_but_not_far() -> None:
    done: list[int] = []

    def job(number: int) -> int:
        done.append(number)
        return number

    results = ahead(partial(job, number) for number in range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert len(done) < 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_results_come_in_order_whatever_they_take() -> None:
    def job(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(ahead(partial(job, number) for number in range(10))) == list(range(10))


# --- augmentation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch(speed: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000).astype(np.float32)
    played = at_speed(tone, speed)
    assert len(played) == pytest.approx(32_000 / speed, abs=2)
    loudest = np.abs(np.fft.rfft(played)).argmax() * 16_000 / len(played)
    assert loudest == pytest.approx(440 * speed, abs=1)


@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_noise_is_as_loud_as_asked_for(snr_db: float, speech: FloatArray) -> None:
    noise = synthetic_noise(len(speech), np.random.default_rng(0))
    added = with_noise(speech, noise, snr_db) - speech
    assert 10 * np.log10(np.square(speech).mean() / np.square(added).mean()) == pytest.approx(snr_db, abs=0.1)


def test_noise_is_white_or_pink() -> None:
    def slope(noise: FloatArray) -> float:
        power = np.square(np.abs(np.fft.rfft(noise)))
        return float(10 * np.log10(power[100:200].mean() / power[6_400:12_800].mean()))

    slopes = [slope(synthetic_noise(32_000, np.random.default_rng(seed))) for seed in range(12)]
    assert all(abs(value) < 1.5 or 15 < value < 21 for value in slopes), "six octaves of three decibels, or none"
    assert {abs(value) < 1.5 for value in slopes} == {True, False}


def test_half_of_the_clips_get_noise(speech: FloatArray) -> None:
    rng = np.random.default_rng(0)
    augmentation = Augmentation(noise=synthetic_noise)
    untouched = sum(np.array_equal(augmentation(speech[:1600], rng), speech[:1600]) for _ in range(100))
    assert 30 < untouched < 70


def test_silence_stays_silent() -> None:
    np.testing.assert_array_equal(with_noise(np.zeros(4, np.float32), np.ones(4, np.float32), 10), np.zeros(4))


def test_noise_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "street").mkdir()
    recorded = np.linspace(-0.5, 0.5, 8_000, dtype=np.float32)
    soundfile.write(tmp_path / "street" / "cars.wav", recorded, 16_000, subtype="FLOAT")
    noise = RecordedNoise(tmp_path)(20_000, np.random.default_rng(0))
    assert noise.shape == (20_000,)
    assert set(noise) <= set(recorded)
    np.testing.assert_array_equal(noise[:8_000], noise[8_000:16_000])


def test_a_folder_without_noise(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no recordings of noise"):
        RecordedNoise(tmp_path)
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(InputError, match=r"notes\.txt is not audio"):
        RecordedNoise(tmp_path)


@given(st.integers(1, 400), st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 99))
def test_holes_are_no_larger_than_asked_for(frames: int, time_part: float, frequency: float, seed: int) -> None:
    features = np.random.default_rng(1).normal(size=(frames, 80)).astype(np.float32)
    holed = Holes(time_part, frequency)(features, np.random.default_rng(seed))
    changed = holed != features
    assert (holed[changed] == features.mean()).all()
    rows, columns = changed.all(axis=1), changed.all(axis=0)
    if not rows.all():
        assert rows.sum() <= time_part * frames + 20
        assert columns.sum() <= frequency * 80 + 10
    assert (changed == (rows[:, None] | columns)).all()


def test_no_holes_leave_everything_as_it_is() -> None:
    features = np.random.default_rng(1).normal(size=(100, 80)).astype(np.float32)
    for seed in range(20):
        np.testing.assert_array_equal(Holes(0, 0)(features, np.random.default_rng(seed)), features)
