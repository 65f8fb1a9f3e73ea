"""Evaluation, logging, model selection and checkpoints of a fine-tuning run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256

import torch

from stream_asr import __version__
from stream_asr.acoustic.pretrained import Pretrained
from stream_asr.errors import InputError
from stream_asr.training.artifacts import EventLog, model_card, save_model
from stream_asr.training.checkpoint import State, save_checkpoint
from stream_asr.training.dataset import Dataset
from stream_asr.training.progress import Position, ProgressDisplay, Report
from stream_asr.training.scoring import ErrorRates
from stream_asr.training.settings import FineTuneSettings
from stream_asr.training.trainable_ctc import Batch, TrainableCTC

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"
RECORDINGS_CHANGED = "the recordings or their texts have changed since the run was started"


class FineTuneHooks:
    """Implements `stream_asr.training.loop.Hooks` for fine-tuning.

    Args:
        settings: settings of the run.
        pretrained: the model and its tokenizer, which are saved to the output folder.
        ctc: the same model, for evaluation.
        train: the training recordings.
        evaluation: the recordings on which error rates are measured.
        display: shows the progress.
        stop: returns whether to stop the run, to be resumed later.

    Attributes:
        before: error rates of the base model.
        best: error rates of the model in the output folder; None if there is none yet.
        stop: the argument ``stop``.
    """

    before: ErrorRates
    best: ErrorRates | None = None

    def __init__(
        self,
        settings: FineTuneSettings,
        pretrained: Pretrained,
        ctc: TrainableCTC,
        train: Dataset[Batch],
        evaluation: Dataset[Batch],
        display: ProgressDisplay,
        stop: Callable[[], bool],
    ) -> None:
        self._settings, self._pretrained, self._ctc, self._display = settings, pretrained, ctc, display
        self._train, self._evaluation = train, evaluation
        self._log = EventLog(settings.output / LOG)
        self._latest: ErrorRates | None = None
        self.stop = stop

    def start(self) -> None:
        """Evaluate the base model at the start of a run."""
        self._log.write("start", version=__version__, torch=torch.__version__, settings=self._settings.fixed_values())
        self.before = self._measure()
        self._log.write("before", wer=self.before.wer, cer=self.before.cer)
        self._display.show_evaluation("before", self.before)

    def resume(self, saved: State) -> None:
        """Restore the results of the interrupted run from its checkpoint.

        Raises:
            InputError: the run used other recordings or texts.
        """
        if saved["recordings"] != self._fingerprint():
            raise InputError(RECORDINGS_CHANGED)
        self.before = ErrorRates(**saved["before"])
        self.best = ErrorRates(**saved["best"]) if saved["best"] else None
        self._log.write("resume", step=saved["trainer"]["position"]["step"])

    def report(self, report: Report) -> None:
        loss = report.loss if math.isfinite(report.loss) else None  # JSON has no NaN
        self._log.write("training", **asdict(report) | {"loss": loss})
        self._display.show_report(report)

    def evaluate(self, position: Position) -> float:
        self._latest = self._measure()
        self._log.write(
            "evaluation",
            step=position.step,
            elapsed_s=position.elapsed_s,
            wer=self._latest.wer,
            cer=self._latest.cer,
        )
        self._display.show_evaluation(f"step {position.step}", self._latest)
        # CER breaks ties: a new output layer writes no correct word for a while.
        return self._latest.wer + self._latest.cer / 1000

    def save_best(self, position: Position) -> None:
        assert self._latest is not None
        self.best = self._latest
        decoder = self._ctc.decoder_checkpoint()
        save_model(self._settings.output, self._pretrained, decoder)
        card = model_card(
            self._settings.output.resolve().name,
            base=self._pretrained.name,
            train=self._train.utterances,
            evaluation=self._evaluation.utterances,
            before=self.before,
            after=self.best,
            second_pass=decoder is not None,
            steps=position.step,
            audio_s=position.audio_s,
            settings={
                name: value
                for name, value in self._settings.fixed_values().items()
                if value is not None and name not in ("train", "evaluation")
            },
        )
        (self._settings.output / "README.md").write_text(card, encoding="utf-8")

    def save_checkpoint(self, state: State) -> None:
        save_checkpoint(
            self._settings.output / CHECKPOINT,
            {
                "trainer": state,
                "settings": self._settings.fixed_values(),
                "recordings": self._fingerprint(),
                "tokens": [list(item.target.tokens) for item in self._train.utterances],
                "before": asdict(self.before),
                "best": asdict(self.best) if self.best else None,
            },
        )

    def _fingerprint(self) -> str:
        """Return a digest of all recordings and texts, in order."""
        digest = sha256()
        for dataset in (self._train, self._evaluation):
            for item in dataset.utterances:
                target = (item.target.text, item.target.ids, item.target.dropped)
                values: tuple[object, ...] = (str(item.path.absolute()), item.start_s, item.seconds, target)
                if item.target.tokens:
                    values += (item.transcript,)
                digest.update(repr(values).encode())
        return digest.hexdigest()

    def _measure(self) -> ErrorRates:
        """Transcribe the evaluation set, each utterance in one pass. The model must be in evaluation mode."""
        references: list[str] = []
        hypotheses: list[str] = []
        count = self._evaluation.count(0)
        for done, batch in enumerate(self._evaluation.epoch(0)):
            self._display.show_task("evaluating", done, count)
            references += batch.texts
            hypotheses += self._ctc.transcribe(batch)
        return ErrorRates.of(references, hypotheses)
