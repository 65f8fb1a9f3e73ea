"""The models that `stream-asr models` lists; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EMBEDDED = "embedded-en"
EMBEDDED_FOLDER = Path(__file__).parent.parent / "models" / EMBEDDED
BUNDLED_LMS = {"lm-en": EMBEDDED_FOLDER.parent / "lm-en" / "lm.npz"}
"""Language models of the package by name; a checkpoint's ``config.json`` may name the one that suits it."""

RECOMMENDED = "facebook/wav2vec2-base-960h"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model worth naming.

    Attributes:
        needs_download: it comes from the Hugging Face hub at first use.
        parameters_m: millions of parameters.
    """

    name: str
    needs_download: bool
    parameters_m: float
    about: str


CATALOG = (
    CatalogEntry(EMBEDDED, False, 10.0, "English; the default; ships in the package"),
    CatalogEntry(RECOMMENDED, True, 94.4, "English; recommended; 3.4 % WER on LibriSpeech test-clean (its card)"),
)
