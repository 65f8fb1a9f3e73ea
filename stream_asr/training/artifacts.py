"""Files that a fine-tuning run writes: the model folder, its model card and the log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, save_decoder
from stream_asr.acoustic.moonshine.decoder_onnx import GRAPH_FILES as DECODER_GRAPH_FILES
from stream_asr.acoustic.moonshine.onnx_runtime import GRAPH_FILES
from stream_asr.acoustic.pretrained import Pretrained, quiet
from stream_asr.training.dataset import Utterance
from stream_asr.training.scoring import ErrorRates


def save_model(folder: Path, pretrained: Pretrained, decoder: DecoderCheckpoint | None = None) -> None:
    """Write weights, configuration, vocabulary and feature extractor, replacing each file atomically.

    ONNX graphs of the base model are copied: they contain no weights, and fine-tuning keeps the sizes of the encoder
    and the decoder.

    Args:
        folder: exists.
        pretrained: the CTC model.
        decoder: its attention decoder; None if it has none.
    """
    temporary = folder / ".model.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with quiet():
            for part in (pretrained.model, pretrained.feature_extractor, pretrained.tokenizer):
                part.save_pretrained(temporary)
        graphs = list(GRAPH_FILES.values())
        if decoder is not None:
            save_decoder(temporary, decoder)
            graphs += [graph for pair in DECODER_GRAPH_FILES.values() for graph in (pair.project, pair.step)]
        base = pretrained.folder
        for graph in graphs:
            if base is not None and (base / graph).is_file():
                shutil.copyfile(base / graph, temporary / graph)
        for file in sorted(temporary.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class EventLog:
    """A log of JSON lines, one per event. Each line is flushed at once, so the file can be followed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, event: str, **values: Any) -> None:
        """Append an event."""
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps({"event": event, **values}, ensure_ascii=False, allow_nan=False), file=file)


def describe_utterances(utterances: Sequence[Utterance]) -> str:
    """Return the number of utterances, their total duration and the number of speakers as text."""
    hours = sum(utterance.seconds for utterance in utterances) / 3600
    speakers = {utterance.speaker for utterance in utterances} - {""}
    by = f", {pluralize(len(speakers), 'speaker')}" if speakers else ""
    return f"{pluralize(len(utterances), 'utterance')}, {hours:.2f} h{by}"


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: 1 row, 2 rows."""
    return f"{number} {noun}" + "s" * (number != 1)


def model_card(
    name: str,
    *,
    base: str,
    train: Sequence[Utterance],
    evaluation: Sequence[Utterance],
    before: ErrorRates,
    after: ErrorRates,
    second_pass: bool,
    steps: int,
    audio_s: float,
    settings: Mapping[str, Any],
) -> str:
    """Return the model card in Markdown: base model, data, error rates and settings.

    Args:
        second_pass: whether the model has an attention decoder, which wrote the texts of the evaluation.
    """
    kind = "A CTC speech recognition model" + (" with an attention decoder" if second_pass else "")
    how = "without case and punctuation" if second_pass else "without a language model"
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    return f"""# {name}

{kind}, fine-tuned with stream_asr from `{base}`. The license of the base model applies.

```console
$ stream-asr transcribe --model {name} RECORDING
```

| evaluation set | WER | CER |
|---|---|---|
| before | {before.wer:.2f} % | {before.cer:.2f} % |
| after | {after.wer:.2f} % | {after.cer:.2f} % |

Trained on {describe_utterances(train)}, in {steps} steps over {audio_s / 3600:.2f} h of audio.
Evaluated on {describe_utterances(evaluation)}, each in one pass, {how}.
This is the checkpoint with the best result on this evaluation set; expect slightly higher error rates on other data.

| setting | |
|---|---|
{rows}
"""
