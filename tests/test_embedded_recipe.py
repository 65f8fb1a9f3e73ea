"""How the embedded model is made: alignment, cuts, limited views, averages, and a stage from end to end."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import MoonshineConfig
from transformers.models.moonshine.modeling_moonshine import MoonshineEncoder
from typer.testing import CliRunner

from stream_asr import Recognizer
from stream_asr.acoustic.moonshine_ctc import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.checkpoint import load_checkpoint
from stream_asr.training.embedded import base
from stream_asr.training.embedded.__main__ import app
from stream_asr.training.embedded.alignment import align
from stream_asr.training.embedded.chunks import ChunkLimits, chunk_mask
from stream_asr.training.embedded.corpus import Corpus, Recording
from stream_asr.training.embedded.data import SegmentData
from stream_asr.training.embedded.export import export
from stream_asr.training.embedded.segments import Pause, cut
from stream_asr.training.embedded.settings import LABELS, TrainingSettings
from stream_asr.training.embedded.synthesis import sentences, written
from stream_asr.training.embedded.train import BEST, CHECKPOINT, Average, Stage, _Keeper, train


def test_the_encoder_is_moonshines() -> None:
    torch.manual_seed(0)
    theirs = MoonshineEncoder(MoonshineConfig()).eval()
    ours = MoonshineForCTC(MoonshineCTCConfig()).eval()
    ours.encoder.load_state_dict(theirs.state_dict())
    waveform = 0.1 * torch.randn(2, 20_000)
    with torch.no_grad():
        expected = theirs(waveform).last_hidden_state
        torch.testing.assert_close(ours.encoder(ours.encoder.features(waveform)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("filler", [0.0, 5.0])
def test_padding_changes_nothing(filler: float) -> None:
    torch.manual_seed(0)
    model = MoonshineForCTC(MoonshineCTCConfig(encoder_num_hidden_layers=2)).eval()
    lengths = (20_000, 14_321, 9_000)
    clips = [0.1 * torch.randn(length) for length in lengths]
    padded = torch.stack([torch.nn.functional.pad(clip, (0, 20_000 - len(clip)), value=filler) for clip in clips])
    mask = torch.stack([(torch.arange(20_000) < length).long() for length in lengths])
    frames = model.encoder.frames(torch.tensor(lengths)).tolist()
    with torch.no_grad():
        together = model(padded, mask).logits
        for clip, count, row in zip(clips, frames, together, strict=True):
            alone = model(clip[None]).logits[0]
            assert len(alone) == count
            torch.testing.assert_close(row[:count], alone, atol=1e-4, rtol=0)
        assert (model(padded).logits[2, : frames[2]] - alone).abs().max() > 1e-3, "it is heard without a mask"


def test_an_unlimited_mask_changes_nothing_and_a_limited_one_hides_what_it_should() -> None:
    torch.manual_seed(0)
    encoder = MoonshineForCTC(MoonshineCTCConfig(encoder_num_hidden_layers=1)).eval().encoder
    features = torch.randn(1, 24, 288)
    changed = features.clone()
    changed[:, 20] = torch.randn(288)
    with torch.no_grad():
        torch.testing.assert_close(encoder(features, chunk_mask(24, 100, 0)), encoder(features), atol=1e-5, rtol=0)
        mask = chunk_mask(24, 8, 4)
        moved = (encoder(features, mask) - encoder(changed, mask)).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(16, 24))


@given(frames=st.integers(1, 60), chunk=st.integers(1, 30), left=st.integers(0, 40), data=st.data())
def test_a_frame_sees_its_chunk_and_what_is_just_before_it(
    frames: int, chunk: int, left: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, chunk - 1))
    mask = chunk_mask(frames, chunk, left, first)
    edges = [0, *range(first or chunk, frames, chunk), frames]
    for start, stop in pairwise(edges):
        for row in range(start, stop):
            assert mask[row].nonzero().flatten().tolist() == list(range(max(0, start - left), stop))


def test_limits_are_drawn_for_their_part_of_the_batches() -> None:
    limits, rng = ChunkLimits(0.25, (2, 9), (0, 5)), np.random.default_rng(0)
    drawn = [limits.draw(20, rng) for _ in range(400)]
    assert 60 < sum(mask is not None for mask in drawn) < 140


@given(data=st.data())
def test_alignment_finds_the_best_of_all_paths(data: st.DataObject) -> None:
    frames, vocabulary = data.draw(st.integers(1, 6)), 3
    ids = data.draw(st.lists(st.integers(1, vocabulary - 1), min_size=1, max_size=3))
    seed = data.draw(st.integers(0, 1000))
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(vocabulary), frames)).astype(np.float32)

    def collapsed(path: tuple[int, ...]) -> list[int]:
        return [token for token, before in zip(path, (None, *path), strict=False) if token and token != before]

    paths = [path for path in product(range(vocabulary), repeat=frames) if collapsed(path) == ids]
    begins = align(log_probs, ids, blank=0)
    if not paths:
        assert begins is None
        return
    best = max(paths, key=lambda path: log_probs[range(frames), path].sum())
    expected = [place for place in range(frames) if best[place] and (not place or best[place] != best[place - 1])]
    assert begins is not None
    assert begins.tolist() == expected


@given(
    places=st.lists(st.integers(1, 399), unique=True, max_size=12).map(sorted),
    shortest=st.integers(1, 80),
    spread=st.integers(0, 100),
    seed=st.integers(0, 99),
)
def test_cuts_lose_nothing(places: list[int], shortest: int, spread: int, seed: int) -> None:
    pauses = tuple(Pause(word, sample) for word, sample in enumerate(places, 1))
    words = len(pauses) + 1
    segments = cut(400, words, pauses, shortest, shortest + spread, np.random.default_rng(seed))
    assert (segments[0].start, segments[0].first_word) == (0, 0)
    assert (segments[-1].stop, segments[-1].stop_word) == (400, words)
    for one, next_one in pairwise(segments):
        assert (one.stop, one.stop_word) == (next_one.start, next_one.first_word)
        assert Pause(one.stop_word, one.stop) in pauses
    assert len(segments) == 1 or all(segment.stop - segment.start >= shortest for segment in segments)


def corpus(seconds: list[float]) -> Corpus:
    rng = np.random.default_rng(0)
    lengths = [round(16_000 * length) for length in seconds]
    offsets = np.cumsum([0, *lengths])[:-1].tolist()
    recordings = [
        Recording(f"speaker {index % 2}", f"word{chr(97 + index)} again".replace("word", ""), offset, length)
        for index, (offset, length) in enumerate(zip(offsets, lengths, strict=True))
    ]
    return Corpus(recordings, (3000 * rng.standard_normal(sum(lengths))).astype(np.int16))


SMALL = TrainingSettings(steps=4, learning_rate=1e-3, warmup_steps=1, batch_s=4.0, shortest_s=0.5, longest_s=2.0)


def test_processes_share_an_epoch_without_overlap() -> None:
    data = corpus([1.0, 1.2, 0.8, 1.5, 0.9, 1.1, 1.3, 0.7])
    heard = []
    for rank in range(2):
        part = SegmentData(data, None, Alphabet(LABELS), SMALL, rank, 2)
        batches = list(part.epoch(0, 0))
        assert len(batches) == part.count(0)
        assert [batch.ids for batch in batches] == [batch.ids for batch in part.epoch(0, 0)]
        [later] = list(part.epoch(0, len(batches) - 1))
        torch.testing.assert_close(later.waveform, batches[-1].waveform, atol=0, rtol=0)
        heard += [ids for batch in batches for ids in batch.ids]
    assert len(heard) == len(set(heard))
    assert all(batch.waveform.shape[1] * len(batch.ids) <= 1.3 * 4 * 16_000 for batch in batches)


def test_a_saved_corpus_is_the_same(tmp_path: Path) -> None:
    made = corpus([0.5, 0.25])
    made.save(tmp_path)
    loaded = Corpus.load(tmp_path)
    assert loaded.recordings == made.recordings
    assert np.array_equal(loaded.audio, made.audio)


def test_averages_follow_the_weights_and_leave_them_alone() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = Average(model, 0.9)
    torch.nn.init.ones_(model.weight)
    for _ in range(200):
        average.update()
    torch.nn.init.constant_(model.weight, 5.0)
    with average.applied():
        assert model.weight.item() == pytest.approx(1, abs=1e-3)
    assert model.weight.item() == 5.0


# --- from end to end --------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Four steps on two seconds of noise, from an encoder with random weights."""
    corpus([0.7, 0.9, 0.8, 1.0, 0.7, 0.6]).save(tmp_path / "recordings")
    weights = MoonshineForCTC(MoonshineCTCConfig(vocab_size=29)).state_dict()
    torch.save({name: weight for name, weight in weights.items() if "head" not in name}, tmp_path / "base.pt")
    settings = replace(SMALL, batch_s=1.0, development_speakers=("speaker 1",), test_speakers=())
    return Stage(tmp_path / "whole", settings, tmp_path / "base.pt", tmp_path / "recordings", None)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_a_stage_that_was_interrupted_ends_as_one_that_was_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train(stage, processes=1)
    interrupted = replace(stage, folder=tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        answers = iter([False, True])
        patch.setattr(_Keeper, "stop", lambda _: next(answers))
        train(interrupted, processes=1)
    assert load_checkpoint(interrupted.folder / CHECKPOINT)["trainer"]["position"]["step"] == 2
    assert not (interrupted.folder / BEST).exists()
    train(interrupted, processes=1)
    start = torch.load(stage.weights, weights_only=True)
    learned, resumed = (torch.load(each.folder / BEST, weights_only=True) for each in (stage, interrupted))
    for name, weight in learned.items():
        torch.testing.assert_close(resumed[name], weight, atol=0, rtol=0)
    assert not torch.equal(learned["encoder.layers.0.mlp.fc1.weight"], start["encoder.layers.0.mlp.fc1.weight"])
    torch.testing.assert_close(learned["encoder.conv1.weight"], start["encoder.conv1.weight"], atol=0, rtol=0)

    export(stage.folder / BEST, tmp_path / "model")
    with Recognizer.from_pretrained(tmp_path / "model", device="cpu") as recognizer:
        assert recognizer.model.labels == LABELS
        assert recognizer.model.frame_samples == 384
        assert recognizer.model.pads
        assert recognizer.transcribe(np.zeros(32_000, dtype=np.float32)).duration_s == 2.0


def test_the_recipe_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["embedded", "--help"])
    monkeypatch.delitem(sys.modules, "stream_asr.training.embedded.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("stream_asr.training.embedded", run_name="__main__")
    assert not ended.value.code
    shown = capsys.readouterr().out
    for option in ("--speech", "--text", "--work", "--output", "--aligner"):
        assert option in shown


def test_without_the_encoder_the_recipe_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PACKAGE", "no_such_package")
    folders = [part for name in ("speech", "text", "work", "output") for part in (f"--{name}", str(tmp_path / name))]
    ended = CliRunner().invoke(app, folders)
    assert ended.exit_code == 1
    assert "error: the encoder to start from is in a package: pip install --no-deps moonshine-voice" in ended.output


# --- texts to read aloud ----------------------------------------------------------------------------------


def test_only_sentences_that_are_read_as_written_are_read_aloud(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(
        "It was the best of times. Mr. Darcy bowed to her. In 1815 he left. “Don’t go,” she said softly!  Too short.\n"
        "I have a well-known friend; she is called THE queen of it.",
        encoding="utf-8",
    )
    found = sentences([book], 0)
    assert sorted(map(written, found)) == [
        "darcy bowed to her",
        "don't go she said softly",
        "i have a well known friend",
        "it was the best of times",
    ]
