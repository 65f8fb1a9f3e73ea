"""Fine-tuning from end to end, as a user runs it, on two short recordings and models of a few thousand weights."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from stream_asr import Recognizer
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.loading import load_model
from stream_asr.array_types import FloatArray
from stream_asr.decoding.ctc import BestPath, decode
from stream_asr.errors import InputError
from stream_asr.training.acoustic import TrainableCTC
from stream_asr.training.checkpoint import load_checkpoint, save_checkpoint
from stream_asr.training.clips import read_clip
from stream_asr.training.finetune import finetune
from stream_asr.training.progress import Report
from stream_asr.training.schedule import Budget
from stream_asr.training.scoring import Score
from stream_asr.training.settings import FineTuneSettings
from tests.support.checkpoints import (
    save_hubert,
    save_moonshine_ctc,
    save_parakeet,
    save_wav2vec2_bert,
    save_wav2vec2_group,
    save_wav2vec2_layer,
    save_wavlm,
)
from tests.support.command_line import Result, run_main

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
def fickle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that leaves much to chance: dropout, dropped layers, holes."""
    folder = tmp_path_factory.mktemp("fickle")
    save_wav2vec2_layer(folder)
    return folder


@pytest.fixture
def manifest(tmp_path: Path, speech: FloatArray) -> Path:
    """A recording at another rate, two parts of which have texts."""
    soundfile.write(tmp_path / "talk.flac", np.repeat(speech[: 4 * 16_000], 2), 32_000)
    path = tmp_path / "talk.tsv"
    rows = (f"talk.flac\tanna\t{FIRST}\t0.3\t1.4", f"talk.flac\tben\t{SECOND}\t1.8\t2.6")
    path.write_text("\n".join(("path\tspeaker\ttext\tstart\tend", *rows)), encoding="utf-8")
    return path


class Silent:
    """Shows nothing, keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def working(self, what: str, done: int, total: int) -> None:
        pass

    def report(self, report: Report) -> None:
        pass

    def evaluated(self, when: str, score: Score) -> None:
        pass


class After:
    """Stops a run after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], manifest: Path, base: Path) -> Run:
    """Runs the command; gives its exit status, and what it wrote to stdout and stderr."""

    def run(*arguments: object) -> Result:
        given = ("--train", manifest, "--eval", manifest, "--model", base, *arguments)
        return run_main(monkeypatch, capfd, "finetune", *given)

    return run


def settings(manifest: Path, base: Path, output: Path, steps: int = 8, **options: object) -> FineTuneSettings:
    return FineTuneSettings(
        manifest,
        manifest,
        output,
        Budget(steps=steps),
        model=str(base),
        device="cpu",
        **options,  # type: ignore[arg-type]
    )


def written_by(folder: Path, samples: FloatArray) -> str:
    """What the model in a folder makes of a clip, in one pass."""
    model = load_model(folder, device="cpu", precision="float32")
    filled = np.pad(samples, (0, -len(samples) % model.frame_samples))
    [log_probs] = model.log_probs([filled])
    return decode(BestPath.best(log_probs, 0), model.labels, model.frame_samples).text


# --- from end to end --------------------------------------------------------------------------------------


def test_a_model_learns_two_recordings_by_heart(run: Run, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    status, out, err = run("--output", output, *OVERFIT)
    assert status == 0
    assert out.startswith("WER ")
    assert out.endswith("before, 0.00 % after\n")
    assert "talk.tsv: 2 utterances, 0.00 h, 2 speakers" in err
    assert "punctuation that the model cannot write was left out of the texts: , (1)" in err
    assert "speakers in both manifests: 2" in err

    assert written_by(output, read_clip(manifest.with_name("talk.flac"), 0.3, 1.4)) == "good morning"
    assert written_by(output, read_clip(manifest.with_name("talk.flac"), 1.8, 2.6)) == "no no"
    with Recognizer.from_pretrained(output, device="cpu") as recognizer:
        assert recognizer.transcribe(manifest.with_name("talk.flac")).text

    events = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] != "training"] == ["start", "before", "evaluation"]
    assert events[-1] | {"elapsed_s": 0} == {"event": "evaluation", "step": 80, "elapsed_s": 0, "wer": 0, "cer": 0}
    # How often it reports, and so what the last loss is the mean of, is up to the machine's speed.
    last_report = [event for event in events if event["event"] == "training"][-1]
    assert (last_report["step"], last_report["progress"]) == (80, 1)
    assert 0 < last_report["loss"] < math.inf
    card = (output / "README.md").read_text()
    assert card.startswith("# out\n")
    assert "| after | 0.00 % | 0.00 % |" in card
    assert "| learning_rate | 0.003 |" in card


def test_a_log_of_losses_that_were_no_numbers_is_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = TrainableCTC.loss
    monkeypatch.setattr(TrainableCTC, "loss", lambda ctc, batch: loss(ctc, batch) * math.nan)
    assert run("--output", tmp_path / "out", "--steps", 2).status == 0

    def no_json(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    events = [json.loads(line, parse_constant=no_json) for line in lines]
    last_report = [event for event in events if event["event"] == "training"][-1]
    assert (last_report["loss"], last_report["skipped"]) == (None, 2)


@pytest.mark.parametrize(
    "save",
    [save_wav2vec2_group, save_hubert, save_wavlm, save_wav2vec2_bert, save_parakeet, save_moonshine_ctc],
    ids=lambda save: save.__name__,
)
def test_every_family_is_saved_as_it_was_measured(save: Callable[[Path], None], manifest: Path, tmp_path: Path) -> None:
    save(tmp_path / "base")
    manifest.write_text("path\ttext\nso.wav\tson don\nso.wav\tson\n")
    soundfile.write(tmp_path / "so.wav", read_clip(manifest.with_name("talk.flac"))[:24_000], 16_000)
    given = settings(manifest, tmp_path / "base", tmp_path / "out", steps=2, learning_rate=1e-3)
    outcome = finetune(given, Silent())
    assert outcome.finished
    text = written_by(tmp_path / "out", read_clip(tmp_path / "so.wav"))
    assert outcome.after == Score.of(["son don", "son"], [text, text])


def test_a_new_alphabet(run: Run, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text().replace(FIRST, "Öl, 5 Äpfel").replace(SECOND, "ja"), encoding="utf-8")
    assert run("--output", tmp_path / "out", *OVERFIT)[0] == 2
    status, out, _ = run("--output", tmp_path / "out", *OVERFIT, "--alphabet", "from-text")
    assert status == 0
    assert out.endswith("before, 0.00 % after\n")
    vocabulary = json.loads((tmp_path / "out" / "vocab.json").read_text())
    assert vocabulary == {token: index for index, token in enumerate(["<pad>", "|", *"5aefjlpäö"])}
    assert written_by(tmp_path / "out", read_clip(manifest.with_name("talk.flac"), 0.3, 1.4)) == "öl 5 äpfel"


# --- going on ---------------------------------------------------------------------------------------------


def test_a_run_that_was_cut_off_ends_in_the_same_weights(manifest: Path, fickle: Path, tmp_path: Path) -> None:
    varied = settings(
        manifest, fickle, tmp_path / "whole", augment_speed=True, augment_noise="synthetic", mask_time=0.3, batch_s=1.2
    )
    assert finetune(varied, Silent()).finished
    parts = replace(varied, output=tmp_path / "parts")
    assert not finetune(parts, Silent(), After(3)).finished
    display = Silent()
    assert finetune(replace(parts, resume=True), display).finished
    assert "resumed at step 3" in display.notes

    whole, resumed = (load_checkpoint(tmp_path / name / "checkpoint.pt")["trainer"] for name in ("whole", "parts"))
    for name, weight in whole["model"].items():
        assert torch.equal(weight, resumed["model"][name]), name
    for one, other in zip(whole["optimizer"]["state"].values(), resumed["optimizer"]["state"].values(), strict=True):
        assert torch.equal(one["exp_avg"], other["exp_avg"])
    best = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert best[0] == best[1]


def test_what_is_resumed_must_be_the_same_run(manifest: Path, base: Path, tmp_path: Path) -> None:
    given = settings(manifest, base, tmp_path / "out", steps=3)
    finetune(given, Silent())
    with pytest.raises(InputError, match="holds a model or a run already: --resume goes on with it"):
        finetune(given, Silent())
    with pytest.raises(InputError, match=r"other settings: learning_rate was 0\.0001, not 0\.5"):
        finetune(replace(given, resume=True, learning_rate=0.5), Silent())
    longer = finetune(replace(given, resume=True, budget=Budget(steps=5)), Silent())
    assert (longer.finished, longer.step) == (True, 5)
    manifest.write_text(manifest.read_text().replace(FIRST, "good evening"))
    with pytest.raises(InputError, match="the recordings or their texts are not those"):
        finetune(replace(given, resume=True), Silent())


def test_there_must_be_something_to_resume(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    status, _, err = run("--output", tmp_path / "out", "--resume")
    assert status == 2
    assert "checkpoint.pt to resume from" in err
    save_checkpoint(tmp_path / "out" / "checkpoint.pt", {"weights": torch.zeros(3)})
    status, _, err = run("--output", tmp_path / "out", "--resume")
    assert status == 2
    assert "checkpoint.pt was not written by a fine-tuning run" in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to another process")
def test_ctrl_c_stores_the_run(manifest: Path, base: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ("--train", manifest, "--eval", manifest, "--model", base, "--output", output, "--steps", 100_000)
    command = [sys.executable, "-m", "stream_asr", "finetune", *map(str, (*options, "--threads", 1))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        for line in training.stderr:
            if "to go" in line:
                training.send_signal(signal.SIGINT)
                break
        rest = training.stderr.read()
    assert training.returncode == 130
    assert f"in {output}; the same command with --resume goes on" in rest
    assert "Traceback" not in rest
    position = load_checkpoint(output / "checkpoint.pt")["trainer"]["position"]
    assert f"stored at step {position['step']} in" in rest


# --- what can be wrong ------------------------------------------------------------------------------------


def test_all_bad_rows_are_listed(run: Run, manifest: Path, tmp_path: Path) -> None:
    rows = "nowhere.wav\t\tyes\ntalk.flac\t\t5 men\ntalk.flac\t\t\ntalk.flac\t\tyes\t3\t9\ntalk.flac\t\tyes\tsoon"
    manifest.write_text(manifest.read_text() + "\n" + rows)
    status, out, err = run("--output", tmp_path / "out")
    assert (status, out) == (2, "")
    assert "10 rows cannot be used (--skip-bad-rows leaves them out):" in err, "five in each of the manifests"
    for number, why in (
        (4, "cannot read"),
        (5, "the model cannot write 5"),
        (6, "no text"),
        (7, "end (9 s) lies beyond"),
        (8, "start is 'soon'"),
    ):
        assert f"talk.tsv, line {number}: {why}" in err
    assert not (tmp_path / "out" / "log.jsonl").exists()


def test_bad_rows_can_be_left_out(run: Run, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text() + "\nnowhere.wav\t\tyes")
    status, _, err = run("--output", tmp_path / "out", "--steps", 1, "--skip-bad-rows")
    assert status == 0
    assert "talk.tsv: 2 utterances, 0.00 h, 2 speakers; 1 row cannot be used" in err
    manifest.write_text("path\ttext\nnowhere.wav\tyes\n")
    status, _, err = run("--output", tmp_path / "other", "--steps", 1, "--skip-bad-rows")
    assert status == 2
    assert "none of its rows can be used; line 2: cannot read" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "0"), "a run needs an end"),
        (("--warmup", "1"), "0 to below 1"),
        (("--mask-time", "1"), "mask_time is 1; 0 to below 1"),
        (("--learning-rate", "0"), "learning_rate is 0; it must be above 0"),
        (("--freeze-layers", "9"), "the encoder has 2"),
        (("--device", "cpu", "--precision", "bfloat16"), "bfloat16 is for CUDA"),
        (("--augment-noise", "no-such-folder"), "no-such-folder holds no recordings of noise"),
        (("--alphabet", "no-such-file"), "cannot read the alphabet no-such-file"),
        (("--batch-seconds", "1"), "1.1 s; a batch holds 1 s"),
        (("--seed", "many"), "seed"),
    ],
)
def test_settings_that_cannot_be(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = run("--output", tmp_path / "out", *arguments)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


def test_a_place_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("--output", tmp_path / "file" / "out")
    assert status == 2
    assert "cannot make the folder" in err


def test_a_model_that_got_worse_says_so(run: Run, manifest: Path, tmp_path: Path) -> None:
    said = written_by(EMBEDDED_FOLDER, read_clip(manifest.with_name("talk.flac")))
    manifest.write_text(f"path\ttext\ntalk.flac\t{said}\n")
    arguments = ("--model", "embedded-en", "--steps", 3, "--learning-rate", 1, "--warmup", 0)
    status, out, err = run("--output", tmp_path / "out", *arguments)
    assert status == 0
    assert (after := re.fullmatch(r"WER 0\.00 % before, ([\d.]+) % after\n", out))
    assert float(after[1]) > 50
    assert "the model was better before: a lower --learning-rate may help" in err
    with Recognizer.from_pretrained(tmp_path / "out", device="cpu") as recognizer:
        assert recognizer.lm is not None, "what helped the model before it was fine-tuned still does"
