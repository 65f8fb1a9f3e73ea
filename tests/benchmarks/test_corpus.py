"""Corpora, playlists and signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import BUNDLED, PAUSE_RANGE_S, Utterance, make_playlist, read_corpus
from signals import pcm16, pink_noise

from stream_asr import InputError


def test_bundled_recording_is_a_corpus() -> None:
    (utterance,) = read_corpus(BUNDLED)
    assert len(utterance.read_samples()) == 472_000
    assert utterance.text.startswith("good morning and welcome")


def test_librispeech_layout_is_read(tmp_path: Path) -> None:
    chapter = tmp_path / "test-clean" / "61" / "70968"
    chapter.mkdir(parents=True)
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n61-70968-0001 AND ENDED\n")
    utterances = read_corpus(tmp_path)
    assert utterances == [
        Utterance(chapter / "61-70968-0000.flac", "61", "HE BEGAN"),
        Utterance(chapter / "61-70968-0001.flac", "61", "AND ENDED"),
    ]
    assert read_corpus(tmp_path, 1) == utterances[:1]


def test_unusable_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        read_corpus(tmp_path / "missing")
    with pytest.raises(InputError, match=r"neither recordings with a manifest\.tsv nor LibriSpeech"):
        read_corpus(tmp_path)


def test_unusable_manifest_or_recording_is_an_input_error(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.tsv"
    manifest.write_text("file\ttext\na.wav\thello\n")
    with pytest.raises(InputError, match=r"manifest\.tsv has no column path$"):
        read_corpus(tmp_path)
    manifest.write_text("path\ttext\na.wav\thello\n")
    (utterance,) = read_corpus(tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*a\.wav"):
        utterance.read_samples()


def test_playlist_has_minimum_duration_and_positions_of_recordings() -> None:
    playlist = make_playlist(read_corpus(BUNDLED), 50, seed=1)
    first, second = playlist.items
    assert (first.name, first.start_s, second.name) == ("demo", 0.0, "demo")
    assert PAUSE_RANGE_S[0] <= second.start_s - 29.5 <= PAUSE_RANGE_S[1]
    start = round(second.start_s * 16_000)
    assert np.array_equal(playlist.samples[start : start + 472_000], playlist.samples[:472_000])
    assert not playlist.samples[472_000:start].any()
    assert playlist.duration_s >= 50


def test_playlist_without_repetition_ends_after_all_recordings() -> None:
    assert len(make_playlist(read_corpus(BUNDLED), 50, seed=1, repeat=False).items) == 1


def test_pink_noise_has_unit_power_and_falling_spectrum() -> None:
    noise = pink_noise(1 << 16, np.random.default_rng(1))
    power = np.square(np.abs(np.fft.rfft(noise)))
    assert np.square(noise).mean() == pytest.approx(1, abs=1e-3)
    assert power[100:200].mean() / power[10_000:20_000].mean() == pytest.approx(100, rel=0.3)


def test_pcm16_clips_at_full_scale() -> None:
    pcm = pcm16(np.array([-1, -0.5, 0.5, 1], np.float32))
    assert np.frombuffer(pcm, "<i2").tolist() == [-32768, -16384, 16384, 32767]
