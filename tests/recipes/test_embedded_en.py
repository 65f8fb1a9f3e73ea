"""The training recipe of the bundled model: its parts, and a small training from end to end."""

from __future__ import annotations

import runpy
import string
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from recipes.embedded_en import package_files
from recipes.embedded_en import train as train_module
from recipes.embedded_en.__main__ import app
from recipes.embedded_en.attention_masks import ChunkMaskSampler, chunk_mask
from recipes.embedded_en.augmentation import Perturbation, StreamingWindows, Variant
from recipes.embedded_en.averaging import WeightAverage
from recipes.embedded_en.corpus import Corpus, Recording, find_pauses
from recipes.embedded_en.dataset import SegmentDataset, Source
from recipes.embedded_en.encoder_states import STATE_RATE, STRIDE_SAMPLES, save_encoder_states
from recipes.embedded_en.export import export_model
from recipes.embedded_en.hooks import BEST, CHECKPOINT, RecipeHooks
from recipes.embedded_en.muon import Muon, orthogonalize
from recipes.embedded_en.segments import Pause, split_recording
from recipes.embedded_en.settings import TrainingSettings, model_config
from recipes.embedded_en.synthesis import normalize, read_sentences, select_rare_words
from recipes.embedded_en.tokenizer import load_tokenizer, train_tokenizer
from recipes.embedded_en.train import TrainingJob, load_initial_weights, train
from stream_asr import Recognizer
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.moonshine.encoder import encoder_sizes
from stream_asr.acoustic.moonshine.layers import make_rotation
from stream_asr.acoustic.moonshine.onnx_runtime import has_graphs
from stream_asr.acoustic.moonshine.transformers import MoonshineCTCConfig, MoonshineForCTC
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.array_types import FloatArray
from stream_asr.training.alphabet import Alphabet
from stream_asr.training.checkpoint import load_checkpoint
from tests.support.fakes import FakeModel

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "encoder_num_attention_heads": 2,
    "rotary_dim": 24,
}
"""Sizes of a small model."""

JOINED = MoonshineCTCConfig(**SIZES, encoder_num_hidden_layers=3, joined_after=1, inputs_to_logits_ratio=768)
SETTINGS = TrainingSettings(
    steps=4, learning_rate=1e-3, warmup_steps=1, batch_s=4.0, min_segment_s=0.5, max_segment_s=2.0
)


def make_corpus(durations_s: list[float]) -> Corpus:
    """Return recordings of noise by two speakers."""
    rng = np.random.default_rng(0)
    lengths = [round(16_000 * duration_s) for duration_s in durations_s]
    offsets = np.cumsum([0, *lengths])[:-1].tolist()
    recordings = [
        Recording(f"speaker {index % 2}", f"{chr(97 + index)} again", offset, length)
        for index, (offset, length) in enumerate(zip(offsets, lengths, strict=True))
    ]
    return Corpus(recordings, (3000 * rng.standard_normal(sum(lengths))).astype(np.int16))


def compute_states(corpus: Corpus, model: MoonshineForCTC, folder: Path, *variants: Variant) -> Corpus:
    save_encoder_states(corpus, model, variants, 0, folder, lambda *_: None)
    return Corpus.load(folder, STATE_RATE)


def lower_states(model: MoonshineForCTC, samples: torch.Tensor) -> torch.Tensor:
    """Return the outputs of the frozen layers in one pass."""
    with torch.no_grad():
        return model.encoder.lower(model.encoder.features(samples[None]))[0]


# --- attention masks and joined frames --------------------------------------------------------------------


def test_chunk_mask_limits_attention() -> None:
    torch.manual_seed(0)
    config = MoonshineCTCConfig(**SIZES, encoder_num_hidden_layers=1)
    encoder = MoonshineForCTC(config).train(False).encoder
    features = torch.randn(1, 24, config.hidden_size)
    changed = features.clone()
    changed[:, 20] = torch.randn(config.hidden_size)
    with torch.no_grad():
        unlimited = encoder.upper(features, visible=chunk_mask(24, 100, 0))
        torch.testing.assert_close(unlimited, encoder(features), atol=1e-5, rtol=0)
        before, after = (encoder.upper(x, visible=chunk_mask(24, 8, 4)) for x in (features, changed))
    affected = (before - after).abs().amax(dim=(0, 2)) > 1e-6
    assert affected.nonzero().flatten().tolist() == list(range(16, 24))


@given(
    frames=st.integers(1, 60),
    chunk=st.integers(1, 30),
    left=st.integers(0, 40),
    right=st.integers(0, 9),
    data=st.data(),
)
def test_frame_attends_to_its_chunk_and_context(
    frames: int, chunk: int, left: int, right: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, chunk - 1))
    mask = chunk_mask(frames, chunk, left, right, first)
    edges = [0, *range(first or chunk, frames, chunk), frames]
    for start, stop in pairwise(edges):
        expected = list(range(max(0, start - left), min(frames, stop + right)))
        for row in range(start, stop):
            assert mask[row].nonzero().flatten().tolist() == expected


def test_masks_are_sampled_with_the_given_probability() -> None:
    sampler, rng = ChunkMaskSampler(0.25, (2, 9), (0, 5), (0, 3)), np.random.default_rng(0)
    masks = [sampler.sample(20, rng) for _ in range(400)]
    assert 60 < sum(mask is not None for mask in masks) < 140


def test_joined_frames_start_as_means_of_pairs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = MoonshineForCTC(MoonshineCTCConfig(**SIZES, encoder_num_hidden_layers=3))
    torch.save(plain.state_dict(), tmp_path / "plain.pt")
    model = MoonshineForCTC(JOINED).train(False)
    load_initial_weights(model, tmp_path / "plain.pt")
    encoder, width = model.encoder, JOINED.hidden_size
    features = torch.randn(1, 9, width)
    assert encoder.join is not None
    means = features[:, :8].reshape(1, 4, 2, width).mean(2)
    torch.testing.assert_close(encoder.join(features[:, :8].reshape(1, 4, 2 * width)), means)
    with torch.no_grad():
        assert encoder.upper(features).shape == (1, 4, width)
    # The position of a joined frame is that of the first frame of its pair.
    joined, single = (make_rotation(x, encoder.sizes, stride) for x, stride in ((features[:, :4], 2), (features, 1)))
    torch.testing.assert_close(joined.cosine, single.cosine[:8:2])
    torch.testing.assert_close(joined.sine, single.sine[:8:2])


# --- segments ---------------------------------------------------------------------------------------------


@given(
    positions=st.lists(st.integers(1, 399), unique=True, max_size=12).map(sorted),
    min_length=st.integers(1, 80),
    spread=st.integers(0, 100),
    seed=st.integers(0, 99),
)
def test_segments_cover_the_recording(positions: list[int], min_length: int, spread: int, seed: int) -> None:
    pauses = tuple(Pause(word, position) for word, position in enumerate(positions, 1))
    words = len(pauses) + 1
    rng = np.random.default_rng(seed)
    segments = split_recording(400, words, pauses, min_length, min_length + spread, rng)
    assert (segments[0].start, segments[0].first_word) == (0, 0)
    assert (segments[-1].stop, segments[-1].stop_word) == (400, words)
    for segment, following in pairwise(segments):
        assert (segment.stop, segment.stop_word) == (following.start, following.first_word)
        assert Pause(segment.stop_word, segment.stop) in pauses
    assert len(segments) == 1 or all(segment.stop - segment.start >= min_length for segment in segments)


def test_pauses_of_long_recordings_are_between_words() -> None:
    class Model(FakeModel):
        frame_samples = 800
        labels = Labels(("", " ", "a", "b"), 0)

        def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
            path = [2, 3, 1, 0, 0, 0, 0, 0, 2, 1, 3, 0]  # "ab", a pause, "a b"
            return [np.where(np.eye(4, dtype=bool)[path], -0.01, -9.0).astype(np.float32) for _ in windows]

    recordings = [Recording("", text, 0, 800 * 12) for text in ("ab a b", "ab " * 9)] + [Recording("", "b", 0, 800)]
    corpus = Corpus(recordings, np.zeros(800 * 12, dtype=np.int16))
    found = find_pauses(corpus, Model(), 0.5, lambda done, total: None)
    assert [recording.pauses for recording in found.recordings] == [(Pause(1, 800 * 5),), (), ()]


# --- corpora, states and batches --------------------------------------------------------------------------


def test_saved_corpus_can_be_loaded(tmp_path: Path) -> None:
    corpus = make_corpus([0.5, 0.25])
    corpus.save(tmp_path)
    loaded = Corpus.load(tmp_path)
    assert loaded.recordings == corpus.recordings
    assert np.array_equal(loaded.array, corpus.array)


def test_states_of_variants_are_outputs_of_the_lower_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, corpus = MoonshineForCTC(JOINED).train(False), make_corpus([0.7, 1.0])
    corpus = corpus.with_recordings([replace(recording, pauses=(Pause(1, 8_000),)) for recording in corpus.recordings])
    slow = Variant(Perturbation(speed=(0.5, 0.5), noise_probability=0.0))
    states = compute_states(corpus, model, tmp_path, Variant(), slow)
    plain, *_, slowed = states.recordings
    expected = lower_states(model, torch.from_numpy(corpus.clip(corpus.recordings[0])))
    np.testing.assert_allclose(states.clip(plain), expected.numpy(), atol=2e-3)
    assert [recording.text for recording in states.recordings] == 2 * [
        recording.text for recording in corpus.recordings
    ]
    assert slowed.length / STATE_RATE == pytest.approx(2.0, abs=0.06)
    assert plain.pauses[0].at / STATE_RATE == pytest.approx(0.5, abs=0.03)
    assert slowed.pauses[0].at / STATE_RATE == pytest.approx(1.0, abs=0.03)


def test_streamed_states_have_limited_context(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = MoonshineCTCConfig(encoder_num_hidden_layers=3, joined_after=1)  # context has little effect in a small one
    model, corpus = MoonshineForCTC(config).train(False), make_corpus([3.0])
    streamed = Variant(streaming=StreamingWindows(kept_frames=(20, 20), right_frames=(14, 14), left_frames=40))
    states = compute_states(corpus, model, tmp_path, Variant(), streamed)
    whole, windowed = (states.clip(recording) for recording in states.recordings)
    assert whole.shape == windowed.shape
    first_window = torch.from_numpy(corpus.clip(corpus.recordings[0])[: 34 * STRIDE_SAMPLES])
    expected = lower_states(model, first_window)
    np.testing.assert_allclose(windowed[:20], expected[:20].numpy(), atol=5e-3)
    assert np.abs(windowed[20:] - whole[20:]).max() > 0.02, "later windows lack context"


def test_processes_share_an_epoch_without_overlap(tmp_path: Path) -> None:
    corpus = make_corpus([1.0, 1.2, 0.8, 1.5, 0.9, 1.1, 1.3, 0.7])
    states = compute_states(corpus, MoonshineForCTC(JOINED).train(False), tmp_path, Variant())
    alphabet = Alphabet(Labels(("", " ", *string.ascii_lowercase), blank=0))
    texts: list[tuple[int, ...]] = []
    for rank in range(2):
        dataset = SegmentDataset([Source(states)], alphabet, SETTINGS, rank, 2)
        batches = list(dataset.epoch(0, 0))
        assert len(batches) == dataset.count(0)
        assert [batch.ids for batch in batches] == [batch.ids for batch in dataset.epoch(0, 0)]
        [last] = list(dataset.epoch(0, len(batches) - 1))
        torch.testing.assert_close(last.states, batches[-1].states, atol=0, rtol=0)
        assert all(batch.states.shape[1] * len(batch.ids) <= 1.3 * 4 * STATE_RATE for batch in batches)
        texts += [ids for batch in batches for ids in batch.ids]
    assert len(texts) == len(set(texts))


# --- training ---------------------------------------------------------------------------------------------


@pytest.fixture
def restore_threads() -> Iterator[None]:
    """Training sets the number of threads of this process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.slow
def test_layers_above_the_frozen_encoder_are_trained_resumed_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train on five seconds of noise, from random weights."""
    monkeypatch.setattr(train_module, "DEVELOPMENT_SPEAKERS", ("speaker 1",))
    corpus = make_corpus([0.7, 0.9, 0.8, 1.0, 0.7, 0.6])
    corpus.save(tmp_path / "recordings")
    train_tokenizer(["b again", "again a"], 40).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    config = model_config()
    config.update({**SIZES, "encoder_num_hidden_layers": 3, "joined_after": 1})
    config.vocab_size = len(tokenizer.labels.tokens)
    encoder = MoonshineForCTC(MoonshineCTCConfig(**SIZES, encoder_num_hidden_layers=1)).state_dict()
    frozen = {name: weight for name, weight in encoder.items() if "head" not in name and "join" not in name}
    torch.save(frozen, tmp_path / "encoder.pt")
    model = MoonshineForCTC(config).train(False)
    load_initial_weights(model, tmp_path / "encoder.pt")
    compute_states(corpus, model, tmp_path / "states", Variant(), Variant(Perturbation()))

    uninterrupted = TrainingJob(
        tmp_path / "uninterrupted",
        replace(SETTINGS, batch_s=1.0),
        config,
        tmp_path / "encoder.pt",
        tmp_path / "tokenizer.json",
        tmp_path / "recordings",
        [(tmp_path / "states", 1.0)],
    )
    train(uninterrupted, processes=1)
    assert f"step {SETTINGS.steps}: WER " in capsys.readouterr().out
    interrupted = replace(uninterrupted, folder=tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        stops = iter([False, True])
        patch.setattr(RecipeHooks, "stop", lambda _: next(stops))
        train(interrupted, processes=1)
    assert load_checkpoint(interrupted.folder / CHECKPOINT)["trainer"]["position"]["step"] == 2
    assert not (interrupted.folder / BEST).exists()
    train(interrupted, processes=1)
    trained, resumed = (torch.load(job.folder / BEST, weights_only=True) for job in (uninterrupted, interrupted))
    for name, weight in trained.items():
        torch.testing.assert_close(resumed[name], weight, atol=0, rtol=0)
    for name, weight in frozen.items():
        assert torch.equal(trained[name], weight) == (name != "encoder.layer_norm.weight"), name

    export_model(uninterrupted.folder / BEST, config, tokenizer, tmp_path / "model")
    assert has_graphs(tmp_path / "model", encoder_sizes(config))
    exported = load_pretrained(tmp_path / "model").model.state_dict()
    for name, weight in trained.items():
        assert torch.equal(exported[name], weight.half().float()), name
    with Recognizer.from_pretrained(tmp_path / "model", device="cpu", lm=None) as recognizer:
        assert recognizer.model.labels == tokenizer.labels
        assert recognizer.model.frame_samples == 768
        assert recognizer.model.pads
        assert recognizer.transcribe(np.zeros(32_000, dtype=np.float32)).duration_s == 2.0


def test_average_follows_the_weights_and_can_be_applied() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = WeightAverage(model, 0.9)
    torch.nn.init.ones_(model.weight)
    for _ in range(200):
        average.update()
    torch.nn.init.constant_(model.weight, 5.0)
    with average.applied():
        assert model.weight.item() == pytest.approx(1, abs=1e-3)
    assert model.weight.item() == 5.0


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_orthogonalized_matrix_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()
    singular = torch.linalg.svdvals(orthogonalize(matrix))
    assert 0.7 < singular.min() < singular.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(orthogonalize(matrix), left @ right, atol=0.15, rtol=0)


def test_muon_solves_least_squares_and_can_be_resumed() -> None:
    rng = np.random.default_rng(0)
    inputs, solution = (torch.from_numpy(rng.normal(size=shape)).float() for shape in ((200, 12), (12, 8)))
    weights: dict[str, torch.Tensor] = {}

    def reset() -> None:
        weights.update(matrix=torch.zeros(12, 8), bias=torch.zeros(8))

    def run(steps: int, state: dict[str, object] | None = None) -> tuple[float, dict[str, object]]:
        matrix, bias = (torch.nn.Parameter(weights[name].clone()) for name in ("matrix", "bias"))
        optimizer = Muon([matrix], [bias], 0.05, 0.0)
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.square(inputs @ (matrix - solution) + bias - 2).mean()
            loss.backward()
            optimizer.step()
        weights.update(matrix=matrix.detach(), bias=bias.detach())
        return loss.item(), optimizer.state_dict()

    reset()
    loss, _ = run(300)
    assert loss < 0.01
    reset()
    _, state = run(100)
    assert run(200, state)[0] == loss


# --- tokenizer and texts ----------------------------------------------------------------------------------


def test_tokenizer_writes_any_text(tmp_path: Path) -> None:
    train_tokenizer(["the good morning", "good the don't"] * 3, 60).save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.labels.blank == 0
    assert " good" in tokenizer.labels.tokens
    for text in ("the good", "a quiz", "don't"):
        ids = tokenizer.alphabet.encode(text).ids
        assert "".join(tokenizer.labels.tokens[index] for index in ids) == f" {text}"
    assert len(tokenizer.alphabet.encode("the good").ids) == 2


def test_only_sentences_that_are_spoken_as_written_are_synthesized(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(
        "It was the best of times. Mr. Darcy bowed to her. In 1815 he left. “Don’t go,” she said softly!  Too short.\n"
        "I have a well-known friend; she is called THE queen of it.",
        encoding="utf-8",
    )
    assert sorted(map(normalize, read_sentences([book], 0))) == [
        "darcy bowed to her",
        "don't go she said softly",
        "i have a well known friend",
        "it was the best of times",
    ]


def test_sentences_with_rare_words_are_selected() -> None:
    sentences = ["the cat and the dog", "a zebra ran", "the zebra and the cat", "a zebra sat", "the xylograph"]
    spoken = Counter({"the": 9, "and": 9, "cat": 9, "dog": 9, "a": 9, "ran": 9, "sat": 9})
    assert select_rare_words(sentences, spoken) == ["a zebra ran", "the zebra and the cat", "a zebra sat"], (
        "a word that occurs once in the texts is considered a name or a typo"
    )
    all_spoken = Counter({word: 9 for sentence in sentences for word in sentence.split()})
    assert select_rare_words(sentences, all_spoken) == []


# --- command line -----------------------------------------------------------------------------------------


def test_module_prints_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["embedded_en", "--help"])
    monkeypatch.delitem(sys.modules, "recipes.embedded_en.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("recipes.embedded_en", run_name="__main__")
    assert not ended.value.code
    help_text = capsys.readouterr().out
    for option in ("--speech", "--text", "--work", "--output", "--aligner"):
        assert option in help_text


def test_missing_encoder_package_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_files, "PACKAGE", "no_such_package")
    arguments = [part for name in ("speech", "text", "work", "output") for part in (f"--{name}", str(tmp_path / name))]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "pip install --no-deps moonshine-voice==0.0.62" in result.output
