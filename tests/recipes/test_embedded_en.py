"""How the embedded model is made: alignment, cuts, limited views, averages, and a stage from end to end."""

from __future__ import annotations

import runpy
import string
import sys
from collections import Counter
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

from recipes.embedded_en import base
from recipes.embedded_en import train as training
from recipes.embedded_en.__main__ import app
from recipes.embedded_en.alignment import align
from recipes.embedded_en.chunks import ChunkLimits, chunk_mask
from recipes.embedded_en.copies import Copy, Streamed
from recipes.embedded_en.corpus import Corpus, Recording
from recipes.embedded_en.data import SegmentData, Source
from recipes.embedded_en.disturbance import Disturbance
from recipes.embedded_en.export import export
from recipes.embedded_en.muon import Muon, orthogonal
from recipes.embedded_en.running import BEST, CHECKPOINT, Average, Keeper
from recipes.embedded_en.segments import Pause, cut
from recipes.embedded_en.settings import TrainingSettings, embedded_model
from recipes.embedded_en.states import RATE, save_states
from recipes.embedded_en.synthesis import sentences, with_rare_words, written
from recipes.embedded_en.train import Training, start_from, train
from recipes.embedded_en.units import learn_pieces, pieces
from stream_asr import Recognizer
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine.layers import rotation_of
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.checkpoint import load_checkpoint


def test_the_encoder_is_moonshines() -> None:
    torch.manual_seed(0)
    theirs = MoonshineEncoder(MoonshineConfig()).eval()
    ours = MoonshineForCTC(MoonshineCTCConfig()).eval()
    ours.encoder.load_state_dict(theirs.state_dict())
    waveform = 0.1 * torch.randn(2, 20_000)
    with torch.no_grad():
        expected = theirs(waveform).last_hidden_state
        torch.testing.assert_close(ours.encoder(ours.encoder.features(waveform)), expected, atol=1e-4, rtol=0)


JOINED = MoonshineCTCConfig(encoder_num_hidden_layers=3, joined_after=1, inputs_to_logits_ratio=768)


@pytest.mark.parametrize("filler", [0.0, 5.0])
@pytest.mark.parametrize("config", [MoonshineCTCConfig(encoder_num_hidden_layers=2), JOINED], ids=["plain", "joined"])
def test_padding_changes_nothing(filler: float, config: MoonshineCTCConfig) -> None:
    torch.manual_seed(0)
    model = MoonshineForCTC(config).eval()
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
        torch.testing.assert_close(
            encoder.upper(features, visible=chunk_mask(24, 100, 0)),
            encoder(features),
            atol=1e-5,
            rtol=0,
        )
        before, after = (encoder.upper(x, visible=chunk_mask(24, 8, 4)) for x in (features, changed))
        moved = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == list(range(16, 24))


def test_joined_frames_begin_as_the_means_of_pairs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(MoonshineForCTC(MoonshineCTCConfig(encoder_num_hidden_layers=3)).state_dict(), tmp_path / "plain.pt")
    model = MoonshineForCTC(JOINED).eval()
    start_from(model, tmp_path / "plain.pt")
    encoder, features = model.encoder, torch.randn(1, 9, 288)
    assert encoder.join is not None
    means = features[:, :8].reshape(1, 4, 2, 288).mean(2)
    torch.testing.assert_close(encoder.join(features[:, :8].reshape(1, 4, 576)), means)
    with torch.no_grad():
        assert encoder.upper(features).shape == (1, 4, 288)
    # A joined frame stands where the first of its pair stood.
    joined, single = (rotation_of(x, encoder.sizes, stride) for x, stride in ((features[:, :4], 2), (features, 1)))
    torch.testing.assert_close(joined.cosine, single.cosine[:8:2])
    torch.testing.assert_close(joined.sine, single.sine[:8:2])


@given(
    frames=st.integers(1, 60),
    chunk=st.integers(1, 30),
    left=st.integers(0, 40),
    ahead=st.integers(0, 9),
    data=st.data(),
)
def test_a_frame_sees_its_chunk_and_what_is_just_before_and_after_it(
    frames: int, chunk: int, left: int, ahead: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, chunk - 1))
    mask = chunk_mask(frames, chunk, left, ahead, first)
    edges = [0, *range(first or chunk, frames, chunk), frames]
    for start, stop in pairwise(edges):
        for row in range(start, stop):
            assert mask[row].nonzero().flatten().tolist() == list(
                range(max(0, start - left), min(frames, stop + ahead))
            )


def test_limits_are_drawn_for_their_part_of_the_batches() -> None:
    limits, rng = ChunkLimits(0.25, (2, 9), (0, 5), (0, 3)), np.random.default_rng(0)
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


def states_of(corpus: Corpus, folder: Path, config: MoonshineCTCConfig) -> Path:
    save_states(corpus, MoonshineForCTC(config).eval(), (Copy(),), 0, folder, lambda *_: None)
    return folder


def test_processes_share_an_epoch_without_overlap(tmp_path: Path) -> None:
    data = Corpus.load(states_of(corpus([1.0, 1.2, 0.8, 1.5, 0.9, 1.1, 1.3, 0.7]), tmp_path, JOINED), RATE)
    alphabet = Alphabet(Labels(("", " ", *string.ascii_lowercase), blank=0))
    heard = []
    for rank in range(2):
        part = SegmentData([Source(data)], alphabet, SMALL, rank, 2)
        batches = list(part.epoch(0, 0))
        assert len(batches) == part.count(0)
        assert [batch.ids for batch in batches] == [batch.ids for batch in part.epoch(0, 0)]
        [later] = list(part.epoch(0, len(batches) - 1))
        torch.testing.assert_close(later.states, batches[-1].states, atol=0, rtol=0)
        heard += [ids for batch in batches for ids in batch.ids]
    assert len(heard) == len(set(heard))
    assert all(batch.states.shape[1] * len(batch.ids) <= 1.3 * 4 * RATE for batch in batches)


def test_a_saved_corpus_is_the_same(tmp_path: Path) -> None:
    made = corpus([0.5, 0.25])
    made.save(tmp_path)
    loaded = Corpus.load(tmp_path)
    assert loaded.recordings == made.recordings
    assert np.array_equal(loaded.array, made.array)


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


SPEAKERS = ("speaker 1",)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_layers_on_top_learn_pieces_from_the_states_of_frozen_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From five seconds of noise and random weights; an interrupted training ends as one that was not."""
    monkeypatch.setattr(training, "DEVELOPMENT_SPEAKERS", SPEAKERS)
    recordings = corpus([0.7, 0.9, 0.8, 1.0, 0.7, 0.6])
    recordings.save(tmp_path / "recordings")
    learn_pieces(["b again", "again a"], 40).save(str(tmp_path / "pieces.json"))
    units, config = pieces(tmp_path / "pieces.json"), embedded_model()
    config.vocab_size = len(units.labels.tokens)
    config.encoder_num_hidden_layers, config.joined_after = 3, 1
    encoder = MoonshineForCTC(MoonshineCTCConfig(encoder_num_hidden_layers=1)).state_dict()
    frozen = {name: weight for name, weight in encoder.items() if "head" not in name and "join" not in name}
    torch.save(frozen, tmp_path / "base.pt")
    model = MoonshineForCTC(config).eval()
    start_from(model, tmp_path / "base.pt")
    save_states(recordings, model, (Copy(), Copy(Disturbance())), 0, tmp_path / "states", lambda *_: None)

    whole = Training(
        tmp_path / "whole",
        replace(SMALL, batch_s=1.0),
        config,
        tmp_path / "base.pt",
        tmp_path / "pieces.json",
        tmp_path / "recordings",
        [(tmp_path / "states", 1.0)],
    )
    train(whole, processes=1)
    assert f"step {SMALL.steps}: WER " in capsys.readouterr().out
    interrupted = replace(whole, folder=tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        answers = iter([False, True])
        patch.setattr(Keeper, "stop", lambda _: next(answers))
        train(interrupted, processes=1)
    assert load_checkpoint(interrupted.folder / CHECKPOINT)["trainer"]["position"]["step"] == 2
    assert not (interrupted.folder / BEST).exists()
    train(interrupted, processes=1)
    learned, resumed = (torch.load(each.folder / BEST, weights_only=True) for each in (whole, interrupted))
    for name, weight in learned.items():
        torch.testing.assert_close(resumed[name], weight, atol=0, rtol=0)
    for name, weight in frozen.items():
        assert torch.equal(learned[name], weight) == (name != "encoder.layer_norm.weight"), name

    export(whole.folder / BEST, config, units, tmp_path / "model")
    exported = load_pretrained(tmp_path / "model").model.state_dict()
    for name, weight in learned.items():
        assert torch.equal(exported[name], weight.half().float()), name
    with Recognizer.from_pretrained(tmp_path / "model", device="cpu", lm=None) as recognizer:
        assert recognizer.model.labels == units.labels
        assert recognizer.model.frame_samples == 768
        assert recognizer.model.pads
        assert recognizer.transcribe(np.zeros(32_000, dtype=np.float32)).duration_s == 2.0


def test_states_are_what_the_lower_layers_make_of_each_copy(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, made = MoonshineForCTC(JOINED).eval(), corpus([0.7, 1.0])
    made = made.of([replace(recording, pauses=(Pause(1, 8_000),)) for recording in made.recordings])
    slow = Disturbance(speed=(0.5, 0.5), noisy=0.0)
    save_states(made, model, (Copy(), Copy(slow)), 0, tmp_path, lambda *_: None)
    states = Corpus.load(tmp_path, RATE)
    plain, *_, slowed = states.recordings
    with torch.no_grad():
        expected = model.encoder.lower(model.encoder.features(torch.from_numpy(made.clip(made.recordings[0]))[None]))[0]
    np.testing.assert_allclose(states.clip(plain), expected.numpy(), atol=2e-3)
    assert [recording.text for recording in states.recordings] == 2 * [recording.text for recording in made.recordings]
    assert slowed.length / RATE == pytest.approx(2.0, abs=0.06)
    assert (plain.pauses[0].at / RATE, slowed.pauses[0].at / RATE) == pytest.approx((0.5, 1.0), abs=0.03)


def test_streamed_states_are_what_a_stream_makes_of_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, made = MoonshineForCTC(JOINED).eval(), corpus([3.0])
    streamed = Copy(streamed=Streamed(kept_steps=(20, 20), right_steps=(14, 14), left_steps=40))
    save_states(made, model, (Copy(), streamed), 0, tmp_path, lambda *_: None)
    states = Corpus.load(tmp_path, RATE)
    whole, pieces = (states.clip(recording) for recording in states.recordings)
    assert whole.shape == pieces.shape
    first = torch.from_numpy(made.clip(made.recordings[0])[: 34 * 384])
    with torch.no_grad():
        expected = model.encoder.lower(model.encoder.features(first[None]))[0]
    np.testing.assert_allclose(pieces[:20], expected[:20].numpy(), atol=5e-3)
    assert np.abs(pieces[20:] - whole[20:]).max() > 0.02, "later pieces know less, and other loudness"


# --- Muon -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_a_direction_has_no_preferences(shape: tuple[int, int]) -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()
    singular = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.7 < singular.min() < singular.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(orthogonal(matrix), left @ right, atol=0.15, rtol=0)


def test_muon_solves_what_least_squares_would_and_goes_on_where_it_was() -> None:
    rng = np.random.default_rng(0)
    inputs, wanted = (torch.from_numpy(rng.normal(size=shape)).float() for shape in ((200, 12), (12, 8)))

    def run(steps: int, state: dict[str, object] | None = None) -> tuple[float, dict[str, object]]:
        matrix, bias = (torch.nn.Parameter(torch.tensor(start[name])) for name in ("matrix", "bias"))
        optimizer = Muon([matrix], [bias], 0.05, 0.0)
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.square(inputs @ (matrix - wanted) + bias - 2).mean()
            loss.backward()
            optimizer.step()
        start.update(matrix=matrix.detach().numpy(), bias=bias.detach().numpy())
        return loss.item(), optimizer.state_dict()

    zeros = {"matrix": np.zeros((12, 8), np.float32), "bias": np.zeros(8, np.float32)}
    start = dict(zeros)
    whole, _ = run(300)
    assert whole < 0.01
    start = dict(zeros)
    _, state = run(100)
    assert run(200, state)[0] == whole


# --- units ------------------------------------------------------------------------------------------------


def test_pieces_write_what_they_were_learnt_from_and_everything_else(tmp_path: Path) -> None:
    learn_pieces(["the good morning", "good the don't"] * 3, 60).save(str(tmp_path / "pieces.json"))
    units = pieces(tmp_path / "pieces.json")
    assert units.labels.blank == 0
    assert " good" in units.labels.tokens
    for text in ("the good", "a quiz", "don't"):
        spelled = units.alphabet.spell(text).ids
        assert "".join(units.labels.tokens[output] for output in spelled) == f" {text}"
    assert len(units.alphabet.spell("the good").ids) == 2


def test_the_recipe_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["embedded", "--help"])
    monkeypatch.delitem(sys.modules, "recipes.embedded_en.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("recipes.embedded_en", run_name="__main__")
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


def test_sentences_with_rare_words_are_read_first() -> None:
    found = [
        "the cat and the dog",
        "a zebra ran",
        "the zebra and the cat",
        "a zebra sat",
        "the xylograph",
    ]  # that once: a name or a slip
    chosen = with_rare_words(found, Counter({"the": 9, "and": 9, "cat": 9, "dog": 9, "a": 9, "ran": 9, "sat": 9}))
    assert chosen == ["a zebra ran", "the zebra and the cat", "a zebra sat"], "once in the texts is a name or a slip"
    assert with_rare_words(found, Counter({word: 9 for text in found for word in text.split()})) == []
