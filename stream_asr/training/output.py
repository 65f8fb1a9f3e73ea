"""What a run leaves behind: a folder that ``--model`` takes, with a card that says where it comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_asr.acoustic.pretrained import Pretrained, quiet
from stream_asr.training.dataset import Utterance
from stream_asr.training.scoring import Score


def save_model(folder: Path, pretrained: Pretrained) -> None:
    """Write weights, configuration, vocabulary and feature settings; each file replaces an old one at once."""
    part = folder / ".model.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        with quiet():
            for saved in (pretrained.model, pretrained.feature_extractor, pretrained.tokenizer):
                saved.save_pretrained(part)
        for file in sorted(part.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


class Log:
    """JSON lines, one an event, each in the file before the run goes on: who follows it sees them as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: str, **values: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps({"event": event, **values}, ensure_ascii=False, allow_nan=False), file=file)


def size_of(utterances: Sequence[Utterance]) -> str:
    """How many recordings, how long, by how many people."""
    hours = sum(utterance.seconds for utterance in utterances) / 3600
    speakers = {utterance.speaker for utterance in utterances} - {""}
    by = f", {counted(len(speakers), 'speaker')}" if speakers else ""
    return f"{counted(len(utterances), 'utterance')}, {hours:.2f} h{by}"


def counted(number: int, noun: str) -> str:
    """With the plural where it belongs: 1 row, 2 rows."""
    return f"{number} {noun}" + "s" * (number != 1)


def model_card(
    name: str,
    *,
    base: str,
    train: Sequence[Utterance],
    evaluation: Sequence[Utterance],
    before: Score,
    after: Score,
    steps: int,
    audio_s: float,
    settings: Mapping[str, Any],
) -> str:
    """Markdown: what was made of what, and what it is good for."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    return f"""# {name}

A CTC speech recognition model, fine-tuned with stream_asr from `{base}`, whose licence goes on to hold.

```console
$ stream-asr transcribe --model {name} RECORDING
```

| on the evaluation set | WER | CER |
|---|---|---|
| before | {before.wer:.2f} % | {before.cer:.2f} % |
| after | {after.wer:.2f} % | {after.cer:.2f} % |

Trained on {size_of(train)}, in {steps} steps over {audio_s / 3600:.2f} h of audio.
Evaluated on {size_of(evaluation)}, each in one pass, without a language model.
It is the model of all evaluations that did best on this set, so another set will show a little less.

| setting | |
|---|---|
{rows}
"""
