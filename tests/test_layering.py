"""The shape of the package: a pure core, data flowing one way, modules that fit on a few screens."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stream_asr

PACKAGE = Path(stream_asr.__file__).parent
MODULES = {
    ".".join(("stream_asr", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
SHELLS = (
    *("acoustic", "audio.files", "audio.microphone", "audio.sources", "vad.choice", "vad.silero"),
    *("session", "engine", "stream", "recognizer", "training", "server", "cli", "__main__"),
)
"""Modules and packages that may have torch, threads, sockets and clocks; all others are pure."""

PURE_IN_SHELLS = (
    *("acoustic.base", "acoustic.catalog", "acoustic.locating", "acoustic.spelling"),
    *("training.alphabet", "training.batches", "training.manifest", "training.schedule", "training.scoring"),
    *("server.errors", "server.outbox", "server.request", "server.limits", "server.settings", "server.protocols"),
    *("cli.formats", "cli.grouping", "cli.options", "cli.views"),
)

LAYERS = (
    ("", "errors"),
    ("config", "replacing", "arrays"),
    ("events", "vad", "audio", "windows"),
    ("ctc", "said", "subtitles", "transcript", "latency", "marks", "overload", "ledger", "segmenter"),
    ("decoding", "lm", "acoustic"),
    ("greedy", "beam", "casing", "captions"),
    ("decoders", "jobs", "whole_utterances"),
    ("pipeline",),
    ("session",),
    ("engine", "stream"),
    ("recognizer",),
    ("training", "server"),
    ("cli",),
    ("__main__",),
)
"""Modules and packages; each uses those above it, and none beside it."""

NOT_FOR_TRAINING = ("session", "engine", "stream", "recognizer", "pipeline", "captions", "segmenter", "windows")

IMPURE = {
    *("torch", "transformers", "onnxruntime", "sounddevice", "soundfile", "fastapi", "starlette"),
    *("asyncio", "threading", "time", "datetime", "random", "secrets", "socket", "tempfile"),
}


def imports(path: Path, *, lazy: bool) -> set[str]:
    """Modules imported; ``lazy`` includes those imported inside functions. Imports for type checkers do not count."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & set(MODULES) or {node.module})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def within(name: str, places: tuple[str, ...]) -> bool:
    """Is a module one of some modules and packages?"""
    return any(f"{name}.".startswith(f"stream_asr.{place}.") for place in places)


def used(name: str) -> set[str]:
    """All modules that a module imports, by way of others too, and itself."""
    found: set[str] = set()
    waiting = {name}
    while waiting:
        module = waiting.pop()
        found.add(module)
        if module in MODULES:
            waiting |= imports(MODULES[module], lazy=True) - found
    return found


@pytest.mark.parametrize(
    "name", sorted(name for name in MODULES if within(name, PURE_IN_SHELLS) or not within(name, SHELLS))
)
def test_the_core_is_pure(name: str) -> None:
    """Neither by itself nor through a module that it uses."""
    assert not {module.split(".")[0] for module in used(name)} & IMPURE


def test_data_flows_one_way() -> None:
    rank = {place: number for number, places in enumerate(LAYERS) for place in places}

    def place(name: str) -> str:
        return name.partition(".")[2].split(".")[0]

    for name, path in MODULES.items():
        for other in imports(path, lazy=True) & set(MODULES):
            assert place(other) == place(name) or rank[place(other)] < rank[place(name)], f"{name} uses {other}"


def test_training_needs_nothing_of_the_stream() -> None:
    for name in MODULES:
        if within(name, ("training",)):
            assert not [other for other in used(name) if within(other, NOT_FOR_TRAINING)], name


def test_clients_stand_apart() -> None:
    clients = sorted((PACKAGE.parent / "clients").rglob("*.py"))
    assert clients
    for path in clients:
        assert not [name for name in imports(path, lazy=True) if name.split(".")[0] == "stream_asr"], path


def test_there_are_no_import_cycles() -> None:
    graph = {name: imports(path, lazy=True) & set(MODULES) - {name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_stay_small(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("command", [[], ["finetune"]])
def test_help_does_not_wait_for_torch(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = {['stream-asr', *command, '--help']}\n"
        "from stream_asr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
