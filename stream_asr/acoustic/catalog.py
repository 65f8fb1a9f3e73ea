"""Known models, and where a named model is. Nothing here imports torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from stream_asr.errors import ModelError

EMBEDDED = "embedded-en"
EMBEDDED_FOLDER = Path(__file__).parent.parent / "models" / EMBEDDED
BUNDLED_LMS = {"lm-en": EMBEDDED_FOLDER.parent / "lm-en" / "lm.npz"}
"""Bundled language models by name. A checkpoint's ``config.json`` may name the one that suits it."""

RECOMMENDED = "facebook/wav2vec2-base-960h"
RECOMMENDED_SECOND_PASS = "UsefulSensors/moonshine-base"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that `stream-asr models` lists.

    Attributes:
        needs_download: whether it is downloaded from the Hugging Face hub at first use.
        parameters_m: millions of parameters.
        about: one line for users.
    """

    name: str
    needs_download: bool
    parameters_m: float
    about: str


CATALOG = (
    CatalogEntry(EMBEDDED, False, 10.0, "English; the default; ships in the package"),
    CatalogEntry(
        RECOMMENDED,
        True,
        94.4,
        "English; recommended; 3.4 % WER on LibriSpeech test-clean (per its model card)",
    ),
)

SECOND_PASS_CATALOG = (
    CatalogEntry(EMBEDDED, False, 19.5, "English; the default with --model embedded-en, and only with it"),
    CatalogEntry(RECOMMENDED_SECOND_PASS, True, 61.5, "English; recommended on a CPU with other models"),
    CatalogEntry("openai/whisper-small.en", True, 241.7, "English; for GPUs and recordings"),
    CatalogEntry("openai/whisper-small", True, 241.7, "99 languages, see --language; for GPUs and recordings"),
)
"""What `--second-pass` can name."""

ALTERNATIVES = (
    f"the bundled model ({EMBEDDED!r}, the default) always works, "
    f"and so does a local folder with a Transformers CTC checkpoint"
)


@dataclass(frozen=True, slots=True)
class ModelKind:
    """What an option expects; for error messages.

    Attributes:
        option: the option that names the model.
        noun: what the model has to be.
        example: a suitable model on the Hugging Face hub.
        alternatives: what works without a connection.
    """

    option: str
    noun: str
    example: str
    alternatives: str


CTC_MODEL = ModelKind("--model", "CTC model", RECOMMENDED, ALTERNATIVES)
SECOND_PASS_MODEL = ModelKind(
    "--second-pass",
    "speech seq2seq model",
    RECOMMENDED_SECOND_PASS,
    "'none' switches the second pass off, and a local folder with a Transformers speech seq2seq checkpoint also works",
)


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Where the files of a model are.

    Attributes:
        name: the name or folder that the user gave.
        folder: the local folder; None for a model on the Hugging Face hub, where ``name`` is its name.
    """

    name: str
    folder: Path | None


def locate(name: str | Path | None = None, kind: ModelKind = CTC_MODEL) -> ModelLocation:
    """Find a model.

    Args:
        name: a hub name, a folder, or None for the bundled model.
        kind: what the model has to be.

    Raises:
        ModelError: the name is neither a folder nor a possible hub name.
    """
    name = EMBEDDED if name is None else str(name)
    if name == EMBEDDED:
        return ModelLocation(name, EMBEDDED_FOLDER)
    folder = os.path.expanduser(name)  # Path.expanduser raises for an unknown user
    if os.path.isdir(folder):
        if not os.path.isfile(os.path.join(folder, "config.json")):
            raise ModelError(
                f"{folder} has no config.json, so it is not a Transformers checkpoint; {kind.alternatives}"
            )
        return ModelLocation(name, Path(folder))
    if os.path.exists(folder):
        raise ModelError(f"{folder} is a file; a model is a folder or a hub name such as {kind.example!r}")
    if name.startswith((".", "~", os.sep)) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(f"there is no folder {name!r}; {kind.alternatives}")
    return ModelLocation(name, None)
