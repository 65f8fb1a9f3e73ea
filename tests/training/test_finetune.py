"""Fine-tuning from end to end with two short utterances and tiny models."""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from stream_asr import Recognizer
from stream_asr.acoustic.base import Chunk, DecodeRequest
from stream_asr.acoustic.loading import load_model
from stream_asr.acoustic.moonshine.decoder_checkpoint import save_decoder
from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.acoustic.pretrained import load_pretrained
from stream_asr.array_types import FloatArray
from stream_asr.cli.finetune_view import FineTuneView
from stream_asr.cli.interrupt import catch_interrupts
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.errors import InputError
from stream_asr.training.checkpoint import load_checkpoint, save_checkpoint
from stream_asr.training.clips import read_clip
from stream_asr.training.finetune import finetune
from stream_asr.training.progress import Report
from stream_asr.training.schedule import Budget
from stream_asr.training.scoring import ErrorRates
from stream_asr.training.settings import FineTuneSettings
from stream_asr.training.trainable_ctc import Batch, TrainableCTC
from tests.support.checkpoints import save_moonshine_ctc, save_wav2vec2_layer
from tests.support.command_line import Result, run_main
from tests.support.training import MODEL_FAMILIES, make_letter_decoder

pytestmark = pytest.mark.usefixtures("one_thread")

FIRST, SECOND = "good morning", "no, no"
OVERFIT = ("--steps", 80, "--learning-rate", 3e-3, "--eval-minutes", 60, "--mask-time", 0, "--mask-frequency", 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learns fast."""
    folder = tmp_path_factory.mktemp("base")
    save_moonshine_ctc(folder)
    return folder


@pytest.fixture(scope="module")
def two_pass_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an attention decoder."""
    folder = tmp_path_factory.mktemp("two_pass_base")
    save_moonshine_ctc(folder, joined_after=1)
    save_decoder(folder, make_letter_decoder())
    return folder


@pytest.fixture(scope="module")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with dropout, layer dropout and masking."""
    folder = tmp_path_factory.mktemp("random_base")
    save_wav2vec2_layer(folder)
    return folder


@pytest.fixture
def manifest(tmp_path: Path, speech: FloatArray) -> Path:
    """A manifest with two excerpts of a 32 kHz recording."""
    soundfile.write(tmp_path / "talk.flac", np.repeat(speech[: 4 * 16_000], 2), 32_000)
    path = tmp_path / "talk.tsv"
    rows = (f"talk.flac\tanna\t{FIRST}\t0.3\t1.4", f"talk.flac\tben\t{SECOND}\t1.8\t2.6")
    path.write_text("\n".join(("path\tspeaker\ttext\tstart\tend", *rows)), encoding="utf-8")
    return path


class RecordingDisplay:
    """Implements `ProgressDisplay`. Records the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def show_message(self, text: str) -> None:
        self.messages.append(text)

    def show_task(self, task: str, done: int, total: int) -> None:
        pass

    def show_report(self, report: Report) -> None:
        pass

    def show_evaluation(self, label: str, rates: ErrorRates) -> None:
        pass


class StopAfter:
    """Stops a run after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.remaining = steps

    def __call__(self) -> bool:
        self.remaining -= 1
        return self.remaining <= 0


RunCommand = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], manifest: Path, base: Path) -> RunCommand:
    """Run ``stream-asr finetune`` with the manifest, the base model and further arguments."""

    def run_finetune(*arguments: object) -> Result:
        given = ("--train", manifest, "--eval", manifest, "--model", base, *arguments)
        return run_main(monkeypatch, capfd, "finetune", *given)

    return run_finetune


def make_settings(manifest: Path, base: Path, output: Path, steps: int = 8, **options: object) -> FineTuneSettings:
    return FineTuneSettings(
        manifest,
        manifest,
        output,
        Budget(steps=steps),
        model=str(base),
        device="cpu",
        **options,  # type: ignore[arg-type]
    )


def transcribe_with(model_folder: Path, samples: FloatArray) -> str:
    """Transcribe a clip with a saved model, in one pass."""
    model = load_model(model_folder, device="cpu", precision="float32")
    padded = np.pad(samples, (0, -len(samples) % model.frame_samples))
    [log_probs] = model.log_probs([padded])
    return decode(BestPath.from_log_probs(log_probs, 0), model.labels, model.frame_samples).text


def read_log(output: Path) -> list[dict[str, object]]:
    """Return the events of a log, which must be strict JSON: NaN and infinities are not allowed."""

    def reject(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=reject) for line in (output / "log.jsonl").read_text().splitlines()]


# --- from end to end --------------------------------------------------------------------------------------


def test_model_overfits_two_utterances(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    status, out, err = run("--output", output, *OVERFIT)
    assert status == 0
    assert out.startswith("WER ")
    assert out.endswith("before, 0.00 % after\n")
    assert "talk.tsv: 2 utterances, 0.00 h, 2 speakers" in err
    assert "removed punctuation that the model cannot write: , (1)" in err
    assert "speakers in both manifests: 2" in err

    assert transcribe_with(output, read_clip(manifest.with_name("talk.flac"), 0.3, 1.4)) == "good morning"
    assert transcribe_with(output, read_clip(manifest.with_name("talk.flac"), 1.8, 2.6)) == "no no"
    with Recognizer.from_pretrained(output, device="cpu") as recognizer:
        assert recognizer.transcribe(manifest.with_name("talk.flac")).text

    events = read_log(output)
    assert [event["event"] for event in events if event["event"] != "training"] == ["start", "before", "evaluation"]
    assert events[-1] | {"elapsed_s": 0} == {"event": "evaluation", "step": 80, "elapsed_s": 0, "wer": 0, "cer": 0}
    # The number of reports depends on the speed of the machine.
    last_report = [event for event in events if event["event"] == "training"][-1]
    assert (last_report["step"], last_report["progress"]) == (80, 1)
    assert isinstance(last_report["loss"], float)
    assert 0 < last_report["loss"] < math.inf
    card = (output / "README.md").read_text()
    assert card.startswith("# out\n")
    assert "| after | 0.00 % | 0.00 % |" in card
    assert "| learning_rate | 0.003 |" in card


def test_both_passes_learn_two_utterances(run: RunCommand, manifest: Path, two_pass_base: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text().replace(FIRST, "Hi you!"), encoding="utf-8")
    output = tmp_path / "out"
    status, out, _ = run(
        "--model",
        two_pass_base,
        "--output",
        output,
        *OVERFIT,
        "--steps",
        160,
        "--learning-rate",
        1e-3,
        "--verbatim",
        "--freeze-layers",
        0,
    )
    assert status == 0
    assert out.endswith("before, 0.00 % after\n")
    assert "with an attention decoder" in (output / "README.md").read_text()
    assert transcribe_with(output, read_clip(manifest.with_name("talk.flac"), 0.3, 1.4)) == "hi you"
    model = load_model(output, device="cpu")
    assert isinstance(model, StatefulMoonshine)
    assert model.second_pass is not None
    samples = read_clip(manifest.with_name("talk.flac"), 0.3, 1.4)
    samples = np.pad(samples, (0, -len(samples) % model.frame_samples))
    [chunk] = model.forward_chunks([Chunk(samples, len(samples), model.initial_state(10**6))])
    state = model.second_pass.initial_state()
    request = DecodeRequest(chunk.encoded, len(samples) // 384, None, state, (), (), 20)
    [hypothesis] = model.second_pass.decode([request])
    assert model.second_pass.vocabulary.text(hypothesis.tokens) == " Hi you!"


@pytest.mark.parametrize(("options", "trained"), [({}, False), ({"freeze_layers": 0}, True)])
def test_layers_below_the_decoder_are_trained_on_request(
    options: dict[str, int], trained: bool, manifest: Path, two_pass_base: Path, tmp_path: Path
) -> None:
    finetune(make_settings(manifest, two_pass_base, tmp_path / "out", steps=1, **options), RecordingDisplay())
    before, after = (load_pretrained(folder).model.state_dict() for folder in (two_pass_base, tmp_path / "out"))
    shared, upper = "encoder.layers.0.mlp.fc1.weight", "encoder.layers.1.mlp.fc1.weight"
    assert torch.equal(before[shared], after[shared]) != trained
    assert not torch.equal(before[upper], after[upper])


def test_new_alphabet_has_no_second_pass(manifest: Path, two_pass_base: Path, tmp_path: Path) -> None:
    settings = make_settings(manifest, two_pass_base, tmp_path / "out", steps=1, alphabet="from-text")
    assert finetune(settings, RecordingDisplay()).finished
    assert not (tmp_path / "out" / "decoder.json").exists()


def test_log_is_valid_json_if_the_loss_is_nan(run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = TrainableCTC.loss
    monkeypatch.setattr(TrainableCTC, "loss", lambda ctc, batch: loss(ctc, batch) * math.nan)
    assert run("--output", tmp_path / "out", "--steps", 2).status == 0
    events = read_log(tmp_path / "out")
    last_report = [event for event in events if event["event"] == "training"][-1]
    assert (last_report["loss"], last_report["skipped"]) == (None, 2)


@pytest.mark.parametrize("family", ["wav2vec2 group norm", "hubert", "wavlm", "wav2vec2-bert", "parakeet", "moonshine"])
def test_saved_model_has_the_reported_error_rates(family: str, manifest: Path, tmp_path: Path) -> None:
    MODEL_FAMILIES[family](tmp_path / "base")
    manifest.write_text("path\ttext\nclip.wav\tson don\nclip.wav\tson\n")
    soundfile.write(tmp_path / "clip.wav", read_clip(manifest.with_name("talk.flac"))[:24_000], 16_000)
    settings = make_settings(manifest, tmp_path / "base", tmp_path / "out", steps=2, learning_rate=1e-3)
    result = finetune(settings, RecordingDisplay())
    assert result.finished
    text = transcribe_with(tmp_path / "out", read_clip(tmp_path / "clip.wav"))
    assert result.after == ErrorRates.of(["son don", "son"], [text, text])


def test_model_learns_a_new_alphabet(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text().replace(FIRST, "Öl, 5 Äpfel").replace(SECOND, "ja"), encoding="utf-8")
    assert run("--output", tmp_path / "out", *OVERFIT).status == 2
    status, out, _ = run("--output", tmp_path / "out", *OVERFIT, "--alphabet", "from-text")
    assert status == 0
    assert out.endswith("before, 0.00 % after\n")
    vocabulary = json.loads((tmp_path / "out" / "vocab.json").read_text())
    assert vocabulary == {token: index for index, token in enumerate(["<pad>", "|", *"5aefjlpäö"])}
    assert transcribe_with(tmp_path / "out", read_clip(manifest.with_name("talk.flac"), 0.3, 1.4)) == "öl 5 äpfel"


def test_worse_model_is_reported_and_keeps_its_language_model(
    run: RunCommand, manifest: Path, base: Path, tmp_path: Path
) -> None:
    save_moonshine_ctc(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"language_model": "lm-en"}))
    text = transcribe_with(tmp_path / "base", read_clip(manifest.with_name("talk.flac")))
    manifest.write_text(f"path\ttext\ntalk.flac\t{text}\n")
    arguments = ("--model", tmp_path / "base", "--steps", 3, "--learning-rate", 1, "--warmup", 0)
    status, out, err = run("--output", tmp_path / "out", *arguments)
    assert status == 0
    assert (after := re.fullmatch(r"WER 0\.00 % before, ([\d.]+) % after\n", out))
    assert float(after[1]) > 50
    assert "the model got worse; try a lower --learning-rate" in err
    with Recognizer.from_pretrained(tmp_path / "out", device="cpu") as recognizer:
        assert recognizer.lm is not None


# --- resuming ---------------------------------------------------------------------------------------------


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_run(
    manifest: Path, random_base: Path, tmp_path: Path
) -> None:
    settings = make_settings(
        manifest,
        random_base,
        tmp_path / "uninterrupted",
        augment_speed=True,
        augment_noise="synthetic",
        mask_time=0.3,
        batch_s=1.2,
    )
    assert finetune(settings, RecordingDisplay()).finished
    interrupted = replace(settings, output=tmp_path / "interrupted")
    assert not finetune(interrupted, RecordingDisplay(), StopAfter(3)).finished
    display = RecordingDisplay()
    assert finetune(replace(interrupted, resume=True), display).finished
    assert "resumed at step 3" in display.messages

    expected, actual = (
        load_checkpoint(folder / "checkpoint.pt")["trainer"] for folder in (settings.output, interrupted.output)
    )
    for name, weight in expected["model"].items():
        assert torch.equal(weight, actual["model"][name]), name
    for moments, others in zip(
        expected["optimizer"]["state"].values(), actual["optimizer"]["state"].values(), strict=True
    ):
        assert torch.equal(moments["exp_avg"], others["exp_avg"])
    best, best_resumed = (
        (folder / "model.safetensors").read_bytes() for folder in (settings.output, interrupted.output)
    )
    assert best == best_resumed


def test_resumed_run_of_both_passes_ends_with_the_same_weights(
    manifest: Path, two_pass_base: Path, tmp_path: Path
) -> None:
    settings = make_settings(
        manifest, two_pass_base, tmp_path / "uninterrupted", augment_speed=True, mask_time=0.3, batch_s=1.2
    )
    assert finetune(settings, RecordingDisplay()).finished
    interrupted = replace(settings, output=tmp_path / "interrupted")
    assert not finetune(interrupted, RecordingDisplay(), StopAfter(3)).finished
    assert finetune(replace(interrupted, resume=True), RecordingDisplay()).finished
    for file in ("model.safetensors", "decoder.safetensors", "decoder.json"):
        assert (settings.output / file).read_bytes() == (interrupted.output / file).read_bytes()
    expected, actual = (
        load_checkpoint(folder / "checkpoint.pt")["trainer"] for folder in (settings.output, interrupted.output)
    )
    assert any(name.startswith("decoder.") for name in expected["model"])
    for name, weight in expected["model"].items():
        assert torch.equal(weight, actual["model"][name]), name


def test_run_of_an_earlier_version_without_the_decoder_cannot_be_resumed(
    manifest: Path, two_pass_base: Path, tmp_path: Path
) -> None:
    settings = make_settings(manifest, two_pass_base, tmp_path / "out", steps=1)
    finetune(settings, RecordingDisplay())
    state = load_checkpoint(tmp_path / "out" / "checkpoint.pt")
    save_checkpoint(tmp_path / "out" / "checkpoint.pt", {name: state[name] for name in state if name != "tokens"})
    with pytest.raises(InputError, match="a version that trained the CTC model only"):
        finetune(replace(settings, resume=True), RecordingDisplay())


def test_only_the_same_run_can_be_resumed(manifest: Path, base: Path, tmp_path: Path) -> None:
    settings = make_settings(manifest, base, tmp_path / "out", steps=3)
    finetune(settings, RecordingDisplay())
    with pytest.raises(InputError, match="already contains a model or a run: resume the run with --resume"):
        finetune(settings, RecordingDisplay())
    with pytest.raises(InputError, match=r"other settings: learning_rate was 0\.0001, not 0\.5"):
        finetune(replace(settings, resume=True, learning_rate=0.5), RecordingDisplay())
    extended = finetune(replace(settings, resume=True, budget=Budget(steps=5)), RecordingDisplay())
    assert (extended.finished, extended.step) == (True, 5)
    manifest.write_text(manifest.read_text().replace(FIRST, "good evening"))
    with pytest.raises(InputError, match="the recordings or their texts have changed"):
        finetune(replace(settings, resume=True), RecordingDisplay())


def test_resume_needs_a_checkpoint_of_fine_tuning(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    status, _, err = run("--output", tmp_path / "out", "--resume")
    assert status == 2
    assert "checkpoint.pt to resume from" in err
    save_checkpoint(tmp_path / "out" / "checkpoint.pt", {"weights": torch.zeros(3)})
    status, _, err = run("--output", tmp_path / "out", "--resume")
    assert status == 2
    assert "checkpoint.pt was not written by a fine-tuning run" in err


def test_ctrl_c_during_training_saves_the_run(run: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, steps = TrainableCTC.loss, 0

    def interrupt_third_step(ctc: TrainableCTC, batch: Batch) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(ctc, batch)

    monkeypatch.setattr(TrainableCTC, "loss", interrupt_third_step)
    output = tmp_path / "out"
    status, out, err = run("--output", output, "--steps", 100_000, "--eval-minutes", 60)
    assert (status, out) == (130, "")
    assert f"saved at step 3 in {output}; to continue, run the same command with --resume" in err
    assert load_checkpoint(output / "checkpoint.pt")["trainer"]["position"]["step"] == 3


def test_ctrl_c_before_training_ends_at_once() -> None:
    with catch_interrupts() as interrupt, FineTuneView(interrupt) as view:
        view.show_task("checking", 0, 2)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            view.show_task("checking", 1, 2)


# --- invalid input ----------------------------------------------------------------------------------------


def test_all_bad_rows_are_listed(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    rows = "missing.wav\t\tyes\ntalk.flac\t\t5 men\ntalk.flac\t\t\ntalk.flac\t\tyes\t3\t9\ntalk.flac\t\tyes\tsoon"
    manifest.write_text(manifest.read_text() + "\n" + rows)
    status, out, err = run("--output", tmp_path / "out")
    assert (status, out) == (2, "")
    assert "10 rows cannot be used (--skip-bad-rows skips them):" in err, "five in each of the two manifests"
    for number, reason in (
        (4, "cannot read"),
        (5, "the model cannot write 5"),
        (6, "no text"),
        (7, "end (9 s) is beyond"),
        (8, "start is 'soon'"),
    ):
        assert f"talk.tsv, line {number}: {reason}" in err
    assert not (tmp_path / "out" / "log.jsonl").exists()


def test_bad_rows_can_be_skipped(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text() + "\nmissing.wav\t\tyes")
    status, _, err = run("--output", tmp_path / "out", "--steps", 1, "--skip-bad-rows")
    assert status == 0
    assert "talk.tsv: 2 utterances, 0.00 h, 2 speakers; 1 row cannot be used" in err


def test_manifest_without_usable_rows_is_an_error(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text("path\ttext\nmissing.wav\tyes\n")
    status, _, err = run("--output", tmp_path / "out", "--steps", 1, "--skip-bad-rows")
    assert status == 2
    assert "has no usable rows; line 2: cannot read" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "a run needs a limit above 0"),
        (("--warmup", "1"), "at least 0 and below 1"),
        (("--mask-time", "1"), "mask_time is 1; it must be at least 0 and below 1"),
        (("--learning-rate", "0"), "learning_rate is 0; it must be above 0"),
        (("--freeze-layers", "9"), "the encoder has 2"),
        (("--device", "cpu", "--precision", "bfloat16"), "precision bfloat16 requires CUDA"),
        (("--augment-noise", "no-such-folder"), "no-such-folder contains no noise recordings"),
        (("--alphabet", "no-such-file"), "cannot read the alphabet no-such-file"),
        (("--batch-seconds", "1"), "1.1 s; the longest batch is 1 s"),
        (("--seed", "many"), "seed"),
    ],
)
def test_invalid_settings_are_errors(run: RunCommand, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("--output", tmp_path / "out", *arguments)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


def test_output_that_cannot_be_created_is_an_error(run: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("--output", tmp_path / "file" / "out")
    assert status == 2
    assert "cannot create the folder" in err
