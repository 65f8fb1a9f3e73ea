"""A fine-tuning run as its loop sees it: evaluations, the best model, the log, and what is stored to resume it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from typing import Protocol

import torch

from stream_asr import __version__
from stream_asr.acoustic.pretrained import Pretrained
from stream_asr.errors import InputError
from stream_asr.training.acoustic import Batch, TrainableCTC
from stream_asr.training.checkpoint import State, save_checkpoint
from stream_asr.training.dataset import Dataset
from stream_asr.training.output import Log, model_card, save_model
from stream_asr.training.progress import Position, Report
from stream_asr.training.scoring import Score
from stream_asr.training.settings import FineTuneSettings

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


class Display(Protocol):
    """Where a run shows how it goes."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def working(self, what: str, done: int, total: int) -> None:
        """Something other than training goes on, and how far it is."""

    def report(self, report: Report) -> None:
        """Training goes on."""

    def evaluated(self, when: str, score: Score) -> None:
        """What the model was found to be worth."""


class Run:
    """See `stream_asr.training.loop.Hooks`.

    Attributes:
        before: score of the model that the run started from.
        best: that of the model in the output folder, if there is one yet.
    """

    before: Score
    best: Score | None = None

    def __init__(
        self,
        settings: FineTuneSettings,
        pretrained: Pretrained,
        ctc: TrainableCTC,
        train: Dataset[Batch],
        evaluation: Dataset[Batch],
        display: Display,
        stop: Callable[[], bool],
    ) -> None:
        self._settings, self._pretrained, self._ctc, self._display = settings, pretrained, ctc, display
        self._train, self._evaluation = train, evaluation
        self._log = Log(settings.output / LOG)
        self._score: Score | None = None
        self.stop = stop

    def begin(self) -> None:
        """Measure the model that the run starts from."""
        self._log("start", version=__version__, torch=torch.__version__, settings=self._settings.binding())
        self.before = self._measure()
        self._log("before", wer=self.before.wer, cer=self.before.cer)
        self._display.evaluated("before", self.before)

    def resume(self, saved: State) -> None:
        """Take over what an earlier part of the run found out.

        Raises:
            InputError: it learnt from other recordings, or other texts.
        """
        if saved["recordings"] != self._recordings():
            raise InputError("the recordings or their texts are not those that the run was started with")
        self.before = Score(**saved["before"])
        self.best = Score(**saved["best"]) if saved["best"] else None
        self._log("resume", step=saved["trainer"]["position"]["step"])

    def report(self, report: Report) -> None:
        loss = report.loss if math.isfinite(report.loss) else None  # JSON has no word for what is no number
        self._log("training", **asdict(report) | {"loss": loss})
        self._display.report(report)

    def evaluate(self, position: Position) -> float:
        self._score = self._measure()
        place = {"step": position.step, "elapsed_s": position.elapsed_s}
        self._log("evaluation", **place, wer=self._score.wer, cer=self._score.cer)
        self._display.evaluated(f"step {position.step}", self._score)
        # Where a new output layer writes no word right for a while, its characters tell which model is better.
        return self._score.wer + self._score.cer / 1000

    def improved(self, position: Position) -> None:
        self.best = self._score
        save_model(self._settings.output, self._pretrained)
        assert self.best is not None
        card = model_card(
            self._settings.output.resolve().name,
            base=self._pretrained.name,
            train=self._train.utterances,
            evaluation=self._evaluation.utterances,
            before=self.before,
            after=self.best,
            steps=position.step,
            audio_s=position.audio_s,
            settings={
                name: value
                for name, value in self._settings.binding().items()
                if value is not None and name not in ("train", "evaluation")
            },
        )
        (self._settings.output / "README.md").write_text(card, encoding="utf-8")

    def checkpoint(self, state: State) -> None:
        save_checkpoint(
            self._settings.output / CHECKPOINT,
            {
                "trainer": state,
                "settings": self._settings.binding(),
                "recordings": self._recordings(),
                "before": asdict(self.before),
                "best": asdict(self.best) if self.best else None,
            },
        )

    def _recordings(self) -> str:
        """The same for the same recordings and texts in the same order."""
        digest = sha256()
        for data in (self._train, self._evaluation):
            for item in data.utterances:
                digest.update(repr((str(item.path.absolute()), item.start_s, item.seconds, item.spelling)).encode())
        return digest.hexdigest()

    def _measure(self) -> Score:
        """Write down the evaluation set in whole utterances. The model must be in evaluation mode."""
        references: list[str] = []
        hypotheses: list[str] = []
        count = self._evaluation.count(0)
        for done, batch in enumerate(self._evaluation.epoch(0)):
            self._display.working("evaluating", done, count)
            references += batch.texts
            hypotheses += self._ctc.transcribe(batch)
        return Score.of(references, hypotheses)
